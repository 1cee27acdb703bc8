"""The outbox: moves events into work, parks and adds events, and lists sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key


@dataclass(frozen=True, slots=True)
class Drained:
    """The result of moving one slice of events."""

    events: int
    """Events that were moved."""
    rows: int
    """Rows of work that were added or changed."""
    seen: int
    """Events that were read, including those that were left or parked."""
    last_id: int
    """The highest id that was read."""
    first_left: int | None
    """The lowest id of an event that was left, because the work row of its key is locked."""
    parked: int = 0
    """Events that were parked, because their key can't become work."""
    faults: tuple[str, ...] = ()
    """The error classes of parked events."""


def enqueue(connection: Connection, pipeline: str, keys: Sequence[Sequence[object]]) -> None:
    """Enqueues rows with the SQL function for applications. Raises psycopg.Error as the function does."""
    params = {"pipeline": pipeline, "keys": [Jsonb(list(key)) for key in keys]}
    connection.execute(statement("outbox.enqueue"), params)


def waits(connection: Connection, *, after_id: int) -> bool:
    """Whether there is an event after `after_id`. Check it before locking the drain, see the statement."""
    return bool(one(connection, statement("outbox.waits"), {"after_id": after_id})["waits"])


def move(connection: Connection, *, after_id: int, limit: int, burst: int) -> Drained:
    """Moves up to `limit` events after `after_id` into work.

    `burst` or more events of one transaction go to the bulk lane.
    """
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
    """Locks the first event after `after_id` until commit; returns its id, None if there is none."""
    row = connection.execute(statement("outbox.lock_first"), {"after_id": after_id}).fetchone()
    return None if row is None else int(row["id"])


def park(connection: Connection, event_id: int, error_class: str) -> None:
    """Parks an event as a dead letter."""
    connection.execute(statement("outbox.park_event"), {"id": event_id, "error_class": error_class})


def add_parked(connection: Connection, source_id: int, key: Key, error_class: str) -> None:
    """Adds a dead letter for a key without an event."""
    params = {"source_id": source_id, "key": Jsonb(list(key)), "error_class": error_class}
    connection.execute(statement("outbox.add_parked"), params)


Truncation = tuple[str, datetime]
"""The transaction id and the time of a TRUNCATE event."""


def sweeps(connection: Connection) -> dict[int, list[Truncation]]:
    """Returns pending TRUNCATE events, by source id."""
    events: dict[int, list[Truncation]] = {}
    for row in connection.execute(statement("outbox.sweeps")):
        events.setdefault(row["source_id"], []).append((row["xid"], row["at"]))
    return events


def add_sweep(connection: Connection, source_id: int) -> None:
    """Requests a sweep of the targets of a source, as a TRUNCATE does."""
    connection.execute(statement("outbox.add_sweep"), {"source_id": source_id})


def finish_sweep(connection: Connection, source_id: int, events: list[Truncation]) -> None:
    """Deletes the events of a sweep that has reached the end of every target."""
    params = {"source_id": source_id, "xids": [xid for xid, _ in events], "ats": [at for _, at in events]}
    connection.execute(statement("outbox.finish_sweep"), params)


def age(connection: Connection) -> timedelta | None:
    """Returns how long the oldest event has waited for the drain; None if no event waits."""
    oldest: timedelta | None = one(connection, statement("outbox.oldest"))["age"]
    return oldest
