"""Periodic jobs, run in the test's own process and time."""

from __future__ import annotations

from pgvector_sync.engine.jobs import Job, Jobs
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry.events.dispatch import JobFailed
from pgvector_sync.telemetry.events.runs import ReconcileDue
from support.events import Collected, collected


def ask(runtime: Runtime, *jobs: Job, settings: Settings | None = None) -> Collected:
    """What a process emits that has just started and asks for these jobs."""
    with collected() as events:
        Jobs(runtime.database, settings or runtime.settings, jobs)()
    assert events.of(JobFailed) == []
    return events


def run_due(runtime: Runtime, *jobs: Job, settings: Settings | None = None) -> Collected:
    """The same when all of them are due, as after their intervals."""
    with runtime.database.transaction() as connection:
        connection.execute("UPDATE pgvector_sync.tick SET visible_at = now()")
    return ask(runtime, *jobs, settings=settings)


def reconciles(events: Collected) -> list[str]:
    """The pipelines whose reconciliations were started."""
    return [event.pipeline for event in events.of(ReconcileDue)]
