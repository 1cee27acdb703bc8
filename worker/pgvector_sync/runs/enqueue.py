"""Enqueue: put keys into the bulk lane for backfills, re-embeds and reconciliations."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector_sync.database import KEY_REFUSED, Connection
from pgvector_sync.halving import Parts
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store import outbox, runs
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import RowsParked


def enqueue(
    connection: Connection, pipeline: Pipeline, run: ClaimedRun, keys: Sequence[Key], *, force: bool = False
) -> int:
    """Enqueue keys, and return how many weren't waiting already. `force` embeds them even if they are up to date.

    A key that doesn't fit into `work` is found by halving, and added to the outbox as a dead letter.
    """
    enqueued = 0
    parts = Parts(keys)
    while part := parts.take():
        try:
            with connection.transaction():
                enqueued += runs.enqueue(connection, pipeline, run.id, part, force=force)
        except KEY_REFUSED as error:
            if parts.cut(part):
                continue
            error_class = f"key_refused_{error.sqlstate}"
            outbox.add_parked(connection, pipeline.source.id, part[0], error_class)
            emit(RowsParked(pipeline=pipeline.name, rows=1, error_class=error_class))
    return enqueued
