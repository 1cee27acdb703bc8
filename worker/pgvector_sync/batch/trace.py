"""The spans of a batch: one around everything, linked to the runs that have caused it, and one for its claim."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import runs
from pgvector_sync.telemetry import spans
from pgvector_sync.telemetry.spans import Span


@contextmanager
def traced(runtime: Runtime, batch: Batch, *, started: int) -> Iterator[Span]:
    """Record the batch, whose claim began at `started`. An empty claim leaves no span."""
    ended = spans.now()
    attributes = {
        "pgvector_sync.pipeline": batch.pipeline.name,
        "pgvector_sync.claimed": len(batch.rows),
        **{f"pgvector_sync.{name}": value for name, value in batch.names.items()},
    }
    with spans.span(
        f"process {batch.pipeline.name}",
        attributes,
        kind="CONSUMER",
        links=_causes(runtime, batch),
        started=started,
    ) as current:
        spans.add_ended("claim", {"pgvector_sync.claimed": len(batch.rows)}, started=started, ended=ended)
        yield current


def _causes(runtime: Runtime, batch: Batch) -> list[str]:
    """Return the addresses of the spans in which the runs of the batch were requested, or first carried out."""
    if not spans.tracing() or not batch.runs:
        return []
    try:
        with runtime.database.transaction(read_only=True) as connection:
            return runs.traceparents(connection, batch.runs)
    except psycopg.Error:  # a trace is never worth a batch
        return []
