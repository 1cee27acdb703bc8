"""The outbox: events in, work out."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.store.database import Connection, one
from pgvector_sync.store.statements import statement


@dataclass(frozen=True, slots=True)
class Drained:
    events: int
    rows: int
    last_id: int


def move(connection: Connection, *, after_id: int, limit: int) -> Drained:
    """Moves up to `limit` events beyond `after_id` into work."""
    row = one(connection, statement("outbox.drain"), {"after_id": after_id, "limit": limit})
    return Drained(row["events"], row["rows"], row["last_id"] or after_id)


def park_first(connection: Connection, *, after_id: int, error_class: str) -> int | None:
    """Leaves the first event beyond `after_id` behind as parked; returns its id."""
    row = connection.execute(
        statement("outbox.park_event"), {"after_id": after_id, "error_class": error_class}
    ).fetchone()
    return None if row is None else int(row["id"])


def sweeps(connection: Connection) -> dict[int, list[int]]:
    """Pending TRUNCATE events: source id → event ids."""
    found: dict[int, list[int]] = {}
    for row in connection.execute(statement("outbox.sweeps")):
        found.setdefault(row["source_id"], []).append(row["id"])
    return found


def finish_sweep(connection: Connection, ids: list[int]) -> None:
    connection.execute(statement("outbox.finish_sweep"), {"ids": ids})
