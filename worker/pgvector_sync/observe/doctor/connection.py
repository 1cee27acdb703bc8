"""Whether the database is there, and if not, why; a connection string never shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgvector_sync.database import begin, connect
from pgvector_sync.observe.doctor.check import Finding, error, ok, quoted, warning
from pgvector_sync.settings import Settings


def reach(settings: Settings) -> Iterator[Finding]:
    """Raises ConfigError where no database is configured, or its URL can't be read."""
    conninfo = settings.database()
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    started = time.monotonic()
    try:
        with connect(conninfo) as connection:
            info = connection.info
            took = (time.monotonic() - started) * 1000
            with begin(connection, lock_timeout=settings.lock_timeout, read_only=True):
                pass
            place = f"{info.host or 'a local socket'}:{info.port}, database {info.dbname}, as {info.user}"
            encrypted, mode = (
                bool(info.pgconn.ssl_in_use),
                given.get("sslmode", info.get_parameters().get("sslmode", "")),
            )
            yield _transport(f"{place} ({took:.0f} ms)", info.hostaddr, encrypted=encrypted, mode=mode)
    except psycopg.errors.ProtocolViolation:
        yield error(
            "a pooler in statement mode stands between, and it allows no transactions",
            "set pool_mode = transaction there, or point DATABASE_URL past it",
        )
    except psycopg.OperationalError as failure:
        yield _why(str(failure), given)


def _transport(place: str, address: str, *, encrypted: bool, mode: str) -> Finding:
    """How private the way to a server is; `address` is its numeric one, or empty for a local socket."""
    advice = "append ?sslmode=verify-full&sslrootcert=system to DATABASE_URL, or name your authority's certificate"
    if not address or ip_address(address).is_loopback or mode.startswith("verify-"):
        return ok(place)
    if not encrypted:
        return warning(f"{place}: not encrypted, so that anyone on the way can read texts and vectors", advice)
    return warning(
        f"{place}: encrypted, but the server's certificate isn't checked, so that another could answer", advice
    )


def _why(message: str, given: dict[str, str]) -> Finding:
    """The server's reason in our words, or else its first line without the password."""
    user, database = given.get("user", ""), given.get("dbname", given.get("user", ""))
    place = f"{given.get('host', 'the local socket')}:{given.get('port', '5432')}"
    reasons = {
        "password authentication failed": (
            f"{place} refuses the password of {user}",
            f"correct DATABASE_URL; or, as an administrator: ALTER ROLE {quoted(user)} PASSWORD '…';",
        ),
        "no password supplied": (
            f"{place} asks for a password, and DATABASE_URL has none",
            "write it into DATABASE_URL, or set PGPASSWORD",
        ),
        f'database "{database}" does not exist': (
            f"{place} has no database {database}",
            f"correct DATABASE_URL; or CREATE DATABASE {quoted(database)} ENCODING 'UTF8' TEMPLATE template0;",
        ),
        f'role "{user}" does not exist': (
            f"{place} has no role {user}",
            f"correct DATABASE_URL; or, as an administrator: CREATE ROLE {quoted(user)} LOGIN PASSWORD '…';",
        ),
        "no pg_hba.conf entry": (
            f"{place} does not let {user} into {database} from here",
            "add a line to its pg_hba.conf; if it wants encryption, append ?sslmode=require to DATABASE_URL",
        ),
        "too many clients": (
            f"all connections of {place} are taken",
            "raise max_connections, or put a pooler between",
        ),
        "remaining connection slots": (
            f"all connections of {place} are taken",
            "raise max_connections, or put a pooler between",
        ),
        "Connection refused": (
            f"nothing answers at {place}",
            "start the server, or correct host and port in DATABASE_URL",
        ),
        "failed to resolve host": (f"there is no host {given.get('host')}", "correct the host in DATABASE_URL"),
        "timeout expired": (
            f"{place} doesn't answer",
            "check the host in DATABASE_URL, and that firewall and security group let this machine in",
        ),
    }
    for words, (seen, advice) in reasons.items():
        if words in message:
            return error(seen, advice)
    line = (message.strip().splitlines() or ["no answer"])[0]
    if given.get("password"):
        line = line.replace(given["password"], "…")
    return error(f"the database is out of reach: {line}", "check DATABASE_URL, and that the server runs")
