"""The outbox: events in, work out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key


@dataclass(frozen=True, slots=True)
class Drained:
    events: int
    """Those that were moved."""
    rows: int
    seen: int
    """With those that were left because the work row of their key is locked, and those that were parked."""
    last_id: int
    first_left: int | None
    parked: int = 0
    """Their key can't become work."""
    faults: tuple[str, ...] = ()
    """The error classes of those."""


def enqueue(connection: Connection, pipeline: str, keys: Sequence[Sequence[object]]) -> None:
    """Has rows looked at again, with the rights of an application. Raises what the SQL function raises."""
    params = {"pipeline": pipeline, "keys": [Jsonb(list(key)) for key in keys]}
    connection.execute(statement("outbox.enqueue"), params)


def waits(connection: Connection, *, after_id: int) -> bool:
    """Whether there is an event beyond `after_id`. Comes before the lock of the drain, see the statement."""
    return bool(one(connection, statement("outbox.waits"), {"after_id": after_id})["waits"])


def move(connection: Connection, *, after_id: int, limit: int, burst: int) -> Drained:
    """Moves up to `limit` events beyond `after_id` into work; `burst` of one transaction go to the bulk lane."""
    row = one(connection, statement("outbox.drain"), {"after_id": after_id, "limit": limit, "burst": burst})
    return Drained(
        row["events"],
        row["rows"],
        row["seen"],
        row["last_id"] or after_id,
        row["first_left"],
        row["parked"],
        tuple(row["faults"] or ()),
    )


def lock_first(connection: Connection, *, after_id: int) -> int | None:
    """The id of the first event beyond `after_id`, held until commit."""
    row = connection.execute(statement("outbox.lock_first"), {"after_id": after_id}).fetchone()
    return None if row is None else int(row["id"])


def park(connection: Connection, event_id: int, error_class: str) -> None:
    """Leaves an event behind as a dead letter."""
    connection.execute(statement("outbox.park_event"), {"id": event_id, "error_class": error_class})


def add_parked(connection: Connection, source_id: int, key: Key, error_class: str) -> None:
    """A dead letter for a key that has no event."""
    params = {"source_id": source_id, "key": Jsonb(list(key)), "error_class": error_class}
    connection.execute(statement("outbox.add_parked"), params)


EventId = tuple[int, str]
"""An event's id and its transaction's: after a logical replication upgrade, ids repeat."""


def sweeps(connection: Connection) -> dict[int, list[EventId]]:
    """Pending TRUNCATE events by source id."""
    found: dict[int, list[EventId]] = {}
    for row in connection.execute(statement("outbox.sweeps")):
        found.setdefault(row["source_id"], []).append((row["id"], row["xid"]))
    return found


def add_sweep(connection: Connection, source_id: int) -> None:
    """Asks for a walk over the targets of a source, as a TRUNCATE does."""
    connection.execute(statement("outbox.add_sweep"), {"source_id": source_id})


def finish_sweep(connection: Connection, events: list[EventId]) -> None:
    """Removes the events of a sweep that has reached the end of every target."""
    params = {"ids": [event_id for event_id, _ in events], "xids": [xid for _, xid in events]}
    connection.execute(statement("outbox.finish_sweep"), params)


def age(connection: Connection) -> timedelta | None:
    """How long the oldest event has waited for the drain; None: no event waits."""
    found: timedelta | None = one(connection, statement("outbox.oldest"))["age"]
    return found
