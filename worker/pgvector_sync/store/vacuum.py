"""Whether vacuum keeps up with the tables that are written all the time, and what holds it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement


@dataclass(frozen=True, slots=True)
class HotTable:
    """One of our tables that is written all the time."""

    table: str
    dead_tuples: int
    last_vacuum: datetime | None


@dataclass(frozen=True, slots=True)
class VacuumHolder:
    """What keeps vacuum from removing dead rows."""

    kind: str
    """`session`, `prepared` or `slot`."""
    name: str
    detail: str
    age: timedelta | None


@dataclass(frozen=True, slots=True)
class Visibility:
    """Whether the current role sees other roles' sessions."""

    role: str
    all_visible: bool


def enabled(connection: Connection) -> bool:
    """Whether autovacuum is enabled."""
    return bool(one(connection, statement("vacuum.autovacuum"))["on"])


def hot_tables(connection: Connection) -> list[HotTable]:
    """Returns dead rows and the last vacuum of the tables that are written all the time."""
    return [HotTable(**row) for row in connection.execute(statement("vacuum.hot_tables"))]


def holders(connection: Connection, *, long: timedelta, old_xids: int) -> list[VacuumHolder]:
    """Returns transactions open for longer than `long`, and snapshots older than `old_xids` transactions."""
    params = {"long": long, "old_xids": old_xids}
    return [VacuumHolder(**row) for row in connection.execute(statement("vacuum.holders"), params)]


def visibility(connection: Connection) -> Visibility:
    """Returns whether the current role sees other roles' sessions."""
    return Visibility(**one(connection, statement("vacuum.hidden_sessions")))
