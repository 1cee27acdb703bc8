"""Live workers, according to the rows that they renew in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgvector_sync.database.loaders import duration
from pgvector_sync.database.statements import statement

SILENCE = timedelta(seconds=15)
"""How long after its last sign of life a worker counts as dead."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The live workers, and the ages of the last signs of life."""

    alive: int
    slots: int
    """The number of batches that they can process at once."""
    last_seen: timedelta | None
    """The age of the newest sign of life; None if there was none."""
    last_tick: timedelta | None
    """The age of beat's last tick; None if there was none."""


def note_alive(connection: psycopg.Connection[Any], worker: UUID, name: str, slots: int, *, relayed: bool) -> None:
    """Renews the row of a worker. `relayed`: it has looked for work, as the elected relay, since the last time."""
    params = {"worker": worker, "name": name, "slots": slots, "relayed": relayed}
    connection.execute(statement("workers.note_alive"), params)


def note_gone(connection: psycopg.Connection[Any], worker: UUID) -> None:
    """Deletes the row of a worker."""
    connection.execute(statement("workers.note_gone"), {"worker": worker})


def alive(connection: psycopg.Connection[dict[str, Any]]) -> Workers:
    """Returns the live workers."""
    row = connection.execute(statement("workers.alive"), {"silence": SILENCE}).fetchone()
    assert row is not None  # noqa: S101 - an aggregate
    return Workers(row["workers"], row["slots"], duration(row["seen_seconds"]), duration(row["tick_seconds"]))
