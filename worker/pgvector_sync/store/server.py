"""The server: its version, extension, clock and settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Version:
    """The version and kind of the server."""

    version: str
    """As the server prints it."""
    standby: bool


@dataclass(frozen=True, slots=True)
class Extension:
    """The extension pgvector, as installed in this database."""

    version: str
    schema: str
    role: str
    """The current role."""
    usable: bool
    """Whether that role may use the schema."""
    files: str
    """The version that CREATE EXTENSION would install: that of the library on the server's disk."""
    bits: int
    """32 or 64."""


def version(connection: Connection) -> Version:
    """Returns the server's version."""
    return Version(**one(connection, statement("server.version")))


def pgvector(connection: Connection) -> Extension | None:
    """Returns pgvector's version and schema; None if it isn't installed in this database."""
    row = connection.execute(statement("server.pgvector")).fetchone()
    return None if row is None else Extension(**row)


def clock(connection: Connection) -> datetime:
    """Returns the database's time, which is the only one that decides anything."""
    at: datetime = one(connection, statement("server.clock"))["at"]
    return at


def deadlock_timeout(connection: Connection) -> timedelta:
    """Returns how long sessions wait for a lock before the server checks for deadlocks, or cancels autovacuum."""
    timeout: timedelta = one(connection, statement("server.deadlock_timeout"))["deadlock_timeout"]
    return timeout


def process(connection: Connection) -> int:
    """Returns the pid of the server process that serves this connection."""
    return int(one(connection, statement("server.process"))["pid"])
