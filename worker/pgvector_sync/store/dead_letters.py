"""Lists, requeues and discards dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgvector_sync.database import Connection
from pgvector_sync.database.loaders import duration
from pgvector_sync.database.packing import PackedKeys
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that can't be embedded as it is, without its text."""

    pipeline: str
    key: Key | str
    """A string if the key isn't valid or is too long: its JSON, which may be truncated."""
    verdict: str
    """`dead`, or `discarded` by a person."""
    error_class: str
    """See docs/failures.md."""
    message: str
    attempts: int
    parked_at: datetime
    age: timedelta
    """The time since `parked_at`."""


def dead_letters(connection: Connection, pipeline: str | None, *, limit: int) -> list[DeadLetter]:
    """Lists the dead letters of one pipeline, or of all; oldest first."""
    rows = connection.execute(statement("dead_letters.list"), {"pipeline": pipeline, "limit": limit})
    return [
        DeadLetter(
            row["pipeline"],
            row["key"] if isinstance(row["key"], str) else tuple(row["key"]),
            row["verdict"],
            row["error_class"],
            row["error_message"],
            row["attempts"],
            row["parked_at"],
            duration(row["age_seconds"]) or timedelta(0),
        )
        for row in rows
    ]


def requeue(connection: Connection, pipeline: str, keys: Sequence[Key] | None) -> int:
    """Makes the dead letters with these keys, or all of the pipeline, due again; returns how many."""
    params = _params(pipeline, keys)
    rows = connection.execute(statement("dead_letters.requeue"), params).rowcount
    return rows + connection.execute(statement("dead_letters.requeue_events"), params).rowcount


def wake_failed(connection: Connection, pipeline_id: int) -> int:
    """Makes rows due again on which an expression failed; returns how many."""
    return connection.execute(statement("dead_letters.wake_failed"), {"pipeline_id": pipeline_id}).rowcount


def discard(connection: Connection, pipeline: str, keys: Sequence[Key] | None) -> int:
    """Discards the dead letters with these keys, or all of the pipeline; returns how many.

    Events that couldn't become work are deleted.
    """
    rows = connection.execute(statement("dead_letters.discard"), _params(pipeline, keys)).rowcount
    return rows + discard_events(connection, pipeline, keys)


def discard_events(connection: Connection, pipeline: str, keys: Sequence[Key] | None = None) -> int:
    """Deletes events that couldn't become work; returns how many."""
    return connection.execute(statement("dead_letters.discard_events"), _params(pipeline, keys)).rowcount


def discard_old(connection: Connection, *, older_than: timedelta) -> int:
    """Discards dead letters that were parked longer ago; returns how many."""
    return connection.execute(statement("dead_letters.discard_old"), {"older_than": older_than}).rowcount


def _params(pipeline: str, keys: Sequence[Key] | None) -> dict[str, Any]:
    return {"pipeline": pipeline, "keys": None if keys is None else PackedKeys(keys)}
