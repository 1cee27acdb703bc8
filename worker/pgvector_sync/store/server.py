"""The server: its version, extension, clock and settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class Version:
    version: str
    """As the server prints it."""
    standby: bool


@dataclass(frozen=True, slots=True)
class Extension:
    """pgvector."""

    version: str
    schema: str
    role: str
    """The current one."""
    usable: bool
    """Whether that role may use the schema."""


def version(connection: Connection) -> Version:
    return Version(**one(connection, statement("server.version")))


def pgvector(connection: Connection) -> Extension | None:
    """None where it isn't installed in this database."""
    row = connection.execute(statement("server.pgvector")).fetchone()
    return None if row is None else Extension(**row)


def clock(connection: Connection) -> datetime:
    at: datetime = one(connection, statement("server.clock"))["at"]
    return at


def deadlock_timeout(connection: Connection) -> timedelta:
    """How long a session waits for a lock before the server looks for a deadlock, or cancels autovacuum."""
    found: timedelta = one(connection, statement("server.deadlock_timeout"))["deadlock_timeout"]
    return found


def process(connection: Connection) -> int:
    """The id of the server process that serves this transaction."""
    return int(one(connection, statement("server.process"))["pid"])
