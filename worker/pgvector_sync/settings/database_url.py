"""Reads DATABASE_URL in libpq's form, and in the spellings of SQLAlchemy and Django."""

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
"""A scheme, with or without SQLAlchemy's driver: `postgresql+asyncpg://`."""
POSTGRES = {"postgresql", "postgres", "pgsql", "psql", "postgis", "timescale", "timescalegis"}
"""Schemes that SQLAlchemy, django-environ and dj-database-url use for Postgres."""
_PARAMETER = re.compile(r'invalid (?:URI query parameter|connection option)[:]? "(\w+)"', re.ASCII)
_TLS = ("ssl", "ssl_mode", "sslcontext")
_OTHER_PROGRAMS = {
    *_TLS, "schema", "charset", "encoding", "driver", "pgbouncer", "connection_limit", "pool_timeout", "pool_size",
    "prepared_statement_cache_size", "statement_cache_size", "server_settings", "timeout", "command_timeout",
    "async_fallback", "conn_max_age", "prepare_threshold", "workaround", "role", "search_path",
}  # fmt: skip
"""Parameters in URLs for SQLAlchemy, asyncpg, Prisma and Django."""


def libpq_url(url: str, variable: str = VARIABLE) -> str:
    """Returns a variable's connection string as libpq reads it. Raises ConfigError, which shows no part of it."""
    match = _SCHEME.match(url)
    if match is not None:
        if match["name"].lower() not in POSTGRES:
            raise ConfigError(
                f"expected postgresql://, got {match['name'].lower()}://", where=variable, hint=SHAPE
            )
        rest = url[match.end() :]
        if "@" in re.split(r"[/?#]", rest, maxsplit=1)[-1] and re.search(r"[/?#]", rest):
            # an unescaped `/`, `?` or `#` in a password ends the host: what precedes it belongs to the password
            raise ConfigError("can't be parsed", where=variable, hint=SHAPE)
        url = "postgresql://" + rest
    try:
        values = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise _unreadable(str(error), variable) from None
    except UnicodeDecodeError:  # libpq decodes %81, for example, and psycopg can't read the result
        raise ConfigError("isn't a valid connection string", where=variable, hint=SHAPE) from None
    if "@" in values.get("host", "") or not values.get("port", "0").replace(",", "").isdigit():
        # what looks like a host or a port may be a piece of the password, so it isn't shown
        raise ConfigError("can't be parsed", where=variable, hint=SHAPE)
    return url


def address_of(url: str) -> list[str]:
    """The service, host, hostaddr, port and dbname of a connection string, "" for what it doesn't have."""
    values = conninfo_to_dict(url)
    return [str(values.get(name, "")) for name in ("service", "host", "hostaddr", "port", "dbname")]


def _unreadable(message: str, variable: str) -> ConfigError:
    """An error for a connection string that libpq rejects.

    Libpq quotes what it doesn't understand, which may be the password. So only the name of a parameter is shown,
    and only if it resembles a known one.
    """
    match = _PARAMETER.search(message)
    known = [*_OTHER_PROGRAMS, *(option.keyword.decode() for option in Conninfo.get_defaults())]
    if match is None or not get_close_matches(match[1].lower(), known, n=1, cutoff=0.8):
        return ConfigError("isn't a valid connection string", where=variable, hint=SHAPE)
    name = match[1]
    hint = f"remove {name}: only parameters of libpq are accepted, such as sslmode and connect_timeout"
    if name.lower() in _TLS:
        hint = f"use sslmode=require (or verify-full) instead of {name}"
    return ConfigError(f"expected parameters of libpq, got {name}", where=variable, hint=hint)
