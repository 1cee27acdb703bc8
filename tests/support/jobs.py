"""Runs periodic jobs in the test's own process."""

from __future__ import annotations

from pgvector_sync.engine.jobs import Job, Jobs
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry.events.dispatch import JobFailed
from pgvector_sync.telemetry.events.runs import ReconcileDue
from support.events import Collected, collected


def ask(runtime: Runtime, *jobs: Job, settings: Settings | None = None) -> Collected:
    """Runs these jobs as a process does that has just started, and returns the events emitted."""
    with collected() as events:
        Jobs(runtime.database, settings or runtime.settings, jobs)()
    assert events.of(JobFailed) == []
    return events


def run_due(runtime: Runtime, *jobs: Job, settings: Settings | None = None) -> Collected:
    """Like `ask`, with all of the jobs due, as after their intervals."""
    with runtime.database.transaction() as connection:
        connection.execute("UPDATE pgvector_sync.tick SET visible_at = now()")
    return ask(runtime, *jobs, settings=settings)


def reconciles(events: Collected) -> list[str]:
    """The pipelines for which a reconciliation was started."""
    return [event.pipeline for event in events.of(ReconcileDue)]
