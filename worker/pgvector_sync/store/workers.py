"""Which workers are alive, by what they note in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgvector_sync.database.statements import statement

SILENCE = timedelta(seconds=15)
"""A worker that was not heard of for so long counts as dead."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Those alive, as `status --json` prints them."""

    alive: int
    slots: int
    last_seen_seconds: float | None
    last_tick_seconds: float | None


def note_alive(connection: psycopg.Connection[Any], worker: UUID, name: str, slots: int) -> None:
    connection.execute(statement("workers.note_alive"), {"worker": worker, "name": name, "slots": slots})


def note_gone(connection: psycopg.Connection[Any], worker: UUID) -> None:
    connection.execute(statement("workers.note_gone"), {"worker": worker})


def alive(connection: psycopg.Connection[dict[str, Any]]) -> Workers:
    found = connection.execute(statement("workers.alive"), {"silence": SILENCE}).fetchone()
    assert found is not None  # noqa: S101 - an aggregate
    return Workers(
        found["workers"], found["slots"], _rounded(found["seen_seconds"]), _rounded(found["tick_seconds"])
    )


def last_tick(connection: psycopg.Connection[dict[str, Any]]) -> timedelta | None:
    """How long ago beat last ticked; None: never."""
    row = connection.execute(statement("workers.last_tick")).fetchone()
    return None if row is None else row["age"]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
