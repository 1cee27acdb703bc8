"""What the last reconciliation of a pipeline has found, and whether the next is overdue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pgvector_sync.engine.schedule import is_due
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor.check import Finding, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import drift
from pgvector_sync.store.drift import Drift

OVERDUE = timedelta(days=7)
"""Beyond what the schedule says."""


def last_seen(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        figures = drift.trend(connection, pipeline.name, limit=1)
    if not figures:
        yield ok("not compared yet", f"pgvector-sync reconcile {pipeline.name} compares source and target")
        return
    [last] = figures
    schedule = replace(pipeline.options.reconcile, window=None)
    counts = {kind.value: getattr(last, kind.value) for kind in Drift if getattr(last, kind.value)}
    when = f"{last.at:%Y-%m-%d %H:%M} UTC"
    if counts:
        found = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
        yield warning(
            f"on {when} {found} of {last.rows:,} rows had drifted",
            f"pgvector-sync runs show {last.run_id} says what became of it; look again: "
            f"pgvector-sync reconcile {pipeline.name} --dry-run",
        )
    elif is_due(schedule, last.at, datetime.now(UTC) - OVERDUE):
        yield warning(
            f"last compared on {when}", f"is a beat running? Now: pgvector-sync reconcile {pipeline.name}"
        )
    else:
        yield ok(f"last compared on {when}, nothing had drifted")
