"""The check `drift`: what a pipeline's last reconciliation found, and whether the next is overdue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pgvector_sync.engine.schedule import is_due
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.observe.judge import judge_drift, when_compared
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import drift

OVERDUE = timedelta(days=7)
"""A reconciliation this much later than scheduled is reported."""


def last_reconciliation(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        figures = drift.trend(connection, pipeline.name, limit=1)
    if not figures:
        yield ok("not compared yet", f"pgvector-sync reconcile {pipeline.name} compares source and target")
        return
    [last] = figures
    schedule = replace(pipeline.options.reconcile, window=None)
    drifted, when = judge_drift(last), when_compared(last)
    if drifted is not None:
        yield drifted
    elif is_due(schedule, last.at, datetime.now(UTC) - OVERDUE):
        yield warning(
            f"last compared on {when}, which is overdue",
            f"check that beat is running, or compare now: pgvector-sync reconcile {pipeline.name}",
        )
    else:
        yield ok(f"last compared on {when}: no drift")
