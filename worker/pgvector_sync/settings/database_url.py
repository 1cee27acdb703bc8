"""DATABASE_URL as people have it: libpq's form, or the spellings of SQLAlchemy and Django."""

from __future__ import annotations

import re
from difflib import get_close_matches

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from pgvector_sync.errors import ConfigError

VARIABLE = "DATABASE_URL"
SHAPE = (
    "expected postgresql://user:password@host:5432/database, "
    "with @ : / ? # and % in the password written as %40 %3A %2F %3F %23 %25"
)
_SCHEME = re.compile(r"(?P<name>[a-z][a-z0-9]*)(\+[a-z0-9_]+)?://", re.ASCII | re.IGNORECASE)
"""A name, and a driver as SQLAlchemy writes it: `postgresql+asyncpg://`."""
POSTGRES = {"postgresql", "postgres", "pgsql", "psql", "postgis", "timescale", "timescalegis"}
"""Schemes that SQLAlchemy, django-environ and dj-database-url take for Postgres."""
_PARAMETER = re.compile(r'invalid (?:URI query parameter|connection option)[:]? "(\w+)"', re.ASCII)
_TLS = ("ssl", "ssl_mode", "sslcontext")
_OTHER_PROGRAMS = {
    *_TLS, "schema", "charset", "encoding", "driver", "pgbouncer", "connection_limit", "pool_timeout", "pool_size",
    "prepared_statement_cache_size", "statement_cache_size", "server_settings", "timeout", "command_timeout",
    "async_fallback", "conn_max_age", "prepare_threshold", "workaround", "role", "search_path",
}  # fmt: skip
"""Parameters that URLs of SQLAlchemy, asyncpg, Prisma and Django carry."""


def libpq_url(url: str) -> str:
    """The connection string as libpq reads it. Raises ConfigError that shows no part of it."""
    match = _SCHEME.match(url)
    if match is not None:
        if match["name"].lower() not in POSTGRES:
            raise ConfigError(
                f"expected postgresql://, got {match['name'].lower()}://", where=VARIABLE, hint=SHAPE
            )
        rest = url[match.end() :]
        if "@" in re.split(r"[/?#]", rest, maxsplit=1)[-1] and re.search(r"[/?#]", rest):
            # `/`, `?` or `#` inside of a password ends the host's part: what comes before is a piece of it
            raise ConfigError("can't be told apart into user, password, host and port", where=VARIABLE, hint=SHAPE)
        url = "postgresql://" + rest
    try:
        values = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise _unreadable(str(error)) from None
    except UnicodeDecodeError:  # %81, say: libpq decodes it, and psycopg can't read the result
        raise ConfigError("is not a connection string", where=VARIABLE, hint=SHAPE) from None
    if "@" in values.get("host", "") or not values.get("port", "0").replace(",", "").isdigit():
        # never shown: what looks like a host or a port here is a piece of the password
        raise ConfigError("can't be told apart into user, password, host and port", where=VARIABLE, hint=SHAPE)
    return url


def place_of(url: str) -> list[str]:
    """Where the database of a connection string is, without user, password and options."""
    values = conninfo_to_dict(url)
    return [str(values.get(name, "")) for name in ("service", "host", "hostaddr", "port", "dbname")]


def _unreadable(message: str) -> ConfigError:
    """Libpq quotes what it doesn't understand, and that may be the password: only a parameter's name is shown, and
    only if it is one that somebody uses, or almost one.
    """
    found = _PARAMETER.search(message)
    known = [*_OTHER_PROGRAMS, *(option.keyword.decode() for option in Conninfo.get_defaults())]
    if found is None or not get_close_matches(found[1].lower(), known, n=1, cutoff=0.8):
        return ConfigError("is not a connection string", where=VARIABLE, hint=SHAPE)
    name = found[1]
    hint = f"leave {name} out: only parameters of libpq serve here, such as sslmode and connect_timeout"
    if name.lower() in _TLS:
        hint = f"write sslmode=require (or verify-full) in place of {name}"
    return ConfigError(f"has the parameter {name}, which libpq doesn't know", where=VARIABLE, hint=hint)
