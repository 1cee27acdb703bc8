"""Which workers are alive, by what they note in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgvector_sync.database.loaders import duration
from pgvector_sync.database.statements import statement

SILENCE = timedelta(seconds=15)
"""A worker that was not heard of for so long counts as dead."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Those alive, and how long ago there was a sign of life."""

    alive: int
    slots: int
    """Batches that they can carry at once."""
    last_seen: timedelta | None
    """Age of the newest sign of life; None where there was none."""
    last_tick: timedelta | None
    """Age of beat's last tick; None where there was none."""


def note_alive(connection: psycopg.Connection[Any], worker: UUID, name: str, slots: int) -> None:
    connection.execute(statement("workers.note_alive"), {"worker": worker, "name": name, "slots": slots})


def note_gone(connection: psycopg.Connection[Any], worker: UUID) -> None:
    connection.execute(statement("workers.note_gone"), {"worker": worker})


def alive(connection: psycopg.Connection[dict[str, Any]]) -> Workers:
    found = connection.execute(statement("workers.alive"), {"silence": SILENCE}).fetchone()
    assert found is not None  # noqa: S101 - an aggregate
    return Workers(
        found["workers"], found["slots"], duration(found["seen_seconds"]), duration(found["tick_seconds"])
    )


def last_tick(connection: psycopg.Connection[dict[str, Any]]) -> timedelta | None:
    """How long ago beat last ticked; None: never."""
    row = connection.execute(statement("workers.last_tick")).fetchone()
    return None if row is None else row["age"]
