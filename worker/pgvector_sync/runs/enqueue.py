"""Enqueue: keys into the bulk lane, for fills, re-embeds and reconciliations."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector_sync.database import KEY_REFUSED, Connection
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store import outbox, runs
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import RowsParked


def enqueue(
    connection: Connection, pipeline: Pipeline, run: ClaimedRun, keys: Sequence[Key], *, force: bool = False
) -> int:
    """Returns how many were not waiting already. `force`: they are to be paid for again.

    A key that doesn't fit into work is found by halving, and left in the outbox as a dead letter.
    """
    if not keys:
        return 0
    try:
        with connection.transaction():
            return runs.enqueue(connection, pipeline, run.id, keys, force=force)
    except KEY_REFUSED as error:
        if len(keys) == 1:
            error_class = f"key_refused_{error.sqlstate}"
            outbox.add_parked(connection, pipeline.source.id, keys[0], error_class)
            emit(RowsParked(pipeline=pipeline.name, rows=1, error_class=error_class))
            return 0
    middle = len(keys) // 2
    halves = (keys[:middle], keys[middle:])
    return sum(enqueue(connection, pipeline, run, half, force=force) for half in halves)
