"""The check `database`: whether the server answers, or why not. Never shows the connection string."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from ipaddress import ip_address

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgvector_sync import tls
from pgvector_sync.database import begin, connect
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.settings import Settings

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What a client of Postgres sends to begin TLS."""


def reach(settings: Settings) -> Iterator[Finding]:
    """Raises ConfigError if DATABASE_URL is missing or can't be parsed."""
    conninfo = settings.database()
    parameters = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
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
                parameters.get("sslmode", info.get_parameters().get("sslmode", "")),
            )
            yield _transport(f"{place} ({took:.0f} ms)", info.hostaddr, encrypted=encrypted, mode=mode)
    except psycopg.errors.ProtocolViolation:
        yield error(
            "the connection goes through a pooler in statement mode, which doesn't allow transactions",
            "set pool_mode = transaction, or let DATABASE_URL bypass the pooler",
        )
    except psycopg.OperationalError as failure:
        yield _why(str(failure), parameters)


def _transport(place: str, address: str, *, encrypted: bool, mode: str) -> Finding:
    """Judge the encryption of a connection. `address` is numeric, or empty for a local socket."""
    advice = "append ?sslmode=verify-full&sslrootcert=system to DATABASE_URL, or the path of your CA's certificate"
    if not address or ip_address(address).is_loopback or mode.startswith("verify-"):
        return ok(place)
    if not encrypted:
        return warning(f"{place}: not encrypted: texts and vectors can be read in transit", advice)
    return warning(
        f"{place}: encrypted, but the certificate isn't verified: another server could pose as this one", advice
    )


def _why(message: str, parameters: dict[str, str]) -> Finding:
    """Explain the failure, or quote its first line without the password."""
    user, database = parameters.get("user", ""), parameters.get("dbname", parameters.get("user", ""))
    place = f"{parameters.get('host', 'the local socket')}:{parameters.get('port', '5432')}"
    reasons = {
        "password authentication failed": (
            f"{place} rejected the password of {user}",
            f"correct DATABASE_URL; or, as an administrator: ALTER ROLE {quoted(user)} PASSWORD '…';",
        ),
        "no password supplied": (
            f"{place} requires a password, but DATABASE_URL has none",
            "add it to DATABASE_URL, or set PGPASSWORD",
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
            f"{place} doesn't allow {user} to connect to {database} from this machine",
            "add a line to its pg_hba.conf; if it requires encryption, append ?sslmode=require to DATABASE_URL",
        ),
        "too many clients": (
            f"{place} has no free connection slots",
            "raise max_connections, or use a connection pooler",
        ),
        "remaining connection slots": (
            f"{place} has no free connection slots",
            "raise max_connections, or use a connection pooler",
        ),
        "Connection refused": (
            f"can't connect to {place}: connection refused",
            "start the server, or correct the host and port in DATABASE_URL",
        ),
        "failed to resolve host": (f"unknown host {parameters.get('host')}", "correct the host in DATABASE_URL"),
        "timeout expired": (
            f"{place} doesn't answer",
            "check the host in DATABASE_URL, and that firewalls and security groups allow this machine",
        ),
    }
    for phrase, (seen, advice) in reasons.items():
        if phrase in message:
            return error(seen, advice)
    if unverified := _why_not_over_tls(message, parameters):
        return error(f"can't connect to {place}: {unverified[0]}", unverified[1])
    line = (message.strip().splitlines() or ["no reason given"])[0]
    if parameters.get("password"):
        line = line.replace(parameters["password"], "…")
    return error(f"can't connect to the database: {line}", "check DATABASE_URL, and that the server is running")


def _why_not_over_tls(message: str, parameters: dict[str, str]) -> tuple[str, str] | None:
    """Explain a failure of TLS. libpq doesn't say why a certificate isn't valid, so this asks OpenSSL."""
    host, port = parameters.get("hostaddr") or parameters.get("host", ""), parameters.get("port", "5432")
    if "certificate verify failed" in message and port.isdigit() and not host.startswith("/") and "," not in host:
        authority = parameters.get("sslrootcert", os.environ.get("PGSSLROOTCERT", ""))
        files = tls.Files("" if authority == "system" else authority)
        message = tls.handshake(host, int(port), files, greeting=SSL_REQUEST, check_name=False) or message
    return tls.explain(message, tls.POSTGRES)
