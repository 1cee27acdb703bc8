"""DATABASE_URL as people have it: libpq's form, or the spellings of SQLAlchemy and Django."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgvector_sync.errors import ConfigError

VARIABLE = "DATABASE_URL"
SHAPE = (
    "expected postgresql://user:password@host:5432/database, "
    "with @ : / and % in the password written as %40 %3A %2F %25"
)
_SCHEME = re.compile(r"(?P<name>[a-z][a-z0-9]*)(\+[a-z0-9_]+)?://", re.ASCII | re.IGNORECASE)
"""A name, and a driver as SQLAlchemy writes it: `postgresql+asyncpg://`."""
POSTGRES = {"postgresql", "postgres", "pgsql", "psql", "postgis", "timescale", "timescalegis"}
"""Schemes that SQLAlchemy, django-environ and dj-database-url take for Postgres."""
_PARAMETER = re.compile(r'invalid (?:URI query parameter|connection option)[:]? "(\w+)"', re.ASCII)
_TLS = ("ssl", "ssl_mode", "sslcontext")


def libpq_url(url: str) -> str:
    """The connection string as libpq reads it. Raises ConfigError that shows no part of it."""
    match = _SCHEME.match(url)
    if match is not None:
        if match["name"].lower() not in POSTGRES:
            raise ConfigError(
                f"expected postgresql://, got {match['name'].lower()}://", where=VARIABLE, hint=SHAPE
            )
        url = "postgresql://" + url[match.end() :]
    try:
        values = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise _unreadable(str(error)) from None
    if "@" in values.get("host", "") or not values.get("port", "0").replace(",", "").isdigit():
        # never shown: what looks like a host or a port here is a piece of the password
        raise ConfigError("can't be told apart into user, password, host and port", where=VARIABLE, hint=SHAPE)
    return url


def _unreadable(message: str) -> ConfigError:
    """Libpq quotes what it doesn't understand, and that may be the password: only a parameter's name is shown."""
    found = _PARAMETER.search(message)
    if found is None:
        return ConfigError("is not a connection string", where=VARIABLE, hint=SHAPE)
    name = found[1]
    hint = f"leave {name} out: only parameters of libpq serve here, such as sslmode and connect_timeout"
    if name.lower() in _TLS:
        hint = f"write sslmode=require (or verify-full) in place of {name}"
    return ConfigError(f"has the parameter {name}, which libpq doesn't know", where=VARIABLE, hint=hint)
