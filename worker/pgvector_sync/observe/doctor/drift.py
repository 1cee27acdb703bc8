"""The check `drift`: what a pipeline's last reconciliation found, and whether the next is overdue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pgvector_sync.engine.schedule import is_due
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor.check import Finding, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import drift
from pgvector_sync.store.drift import Drift, Figures

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
    drifted, when = judge_drift(last), _when(last)
    if drifted is not None:
        yield drifted
    elif is_due(schedule, last.at, datetime.now(UTC) - OVERDUE):
        yield warning(
            f"last compared on {when}, which is overdue",
            f"check that beat is running, or compare now: pgvector-sync reconcile {pipeline.name}",
        )
    else:
        yield ok(f"last compared on {when}: no drift")


def judge_drift(last: Figures) -> Finding | None:
    """Say what a reconciliation found; None if it found no drift."""
    counts = {kind.value: getattr(last, kind.value) for kind in Drift if getattr(last, kind.value)}
    if not counts:
        return None
    drifted = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
    return warning(
        f"drift on {_when(last)}: {drifted}, of {last.rows:,} rows",
        f"pgvector-sync runs show {last.run_id} shows whether it was repaired; check again: "
        f"pgvector-sync reconcile {last.pipeline} --dry-run",
    )


def _when(figures: Figures) -> str:
    return f"{figures.at:%Y-%m-%d %H:%M} UTC"
