"""Checks that workers are running, a relay is elected, and beat ticks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.observe.doctor.messages import opened
from pgvector_sync.observe.status import (
    START_A_WORKER,
    PipelineStatus,
    lacks_workers,
    read_status,
    read_workers,
    why_no_worker,
)
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store.workers import Workers

SILENT = timedelta(minutes=2)
"""Beat ticks every ten seconds, but a tick can wait for a minute behind the batches and runs of a busy worker."""


def relay(settings: Settings) -> Iterator[Finding]:
    """Yields nothing without REDIS_URL or DATABASE_URL, which other checks report."""
    if settings.redis_url is None or settings.database_url is None:
        return
    with opened(settings.redis(), "REDIS_URL") as (client, _):
        elected = client.exists(f"{settings.namespace()}:relay")
    if elected:
        yield ok("a worker polls the outbox")
    else:
        yield warning(
            "no worker with this DATABASE_URL and REDIS_URL polls the outbox",
            "pgvector-sync worker (or, without Redis: pgvector-sync sync)",
        )


def alive(runtime: Runtime) -> Iterator[Finding]:
    """Check for running workers by their heartbeats in the database."""
    yield judge_workers(read_workers(runtime.database), read_status(runtime.database))


def judge_workers(running: Workers, statuses: Sequence[PipelineStatus]) -> Finding:
    """Say whether enough workers are running for what waits."""
    if running.slots:
        return ok(f"{_count(running.alive, 'worker')}, {_count(running.slots, 'slot')}")
    ago = "" if running.last_seen is None else f"; last seen {_ago(running.last_seen)} ago"
    if lacks_workers(statuses, running):
        return error(f"{why_no_worker(running)}, and rows wait{ago}", START_A_WORKER)
    return warning(f"{why_no_worker(running)}{ago}", START_A_WORKER)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _ago(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))


def beat(runtime: Runtime) -> Iterator[Finding]:
    """Yields nothing without REDIS_URL, since `sync` doesn't need beat."""
    if runtime.settings.redis_url is None:
        return
    yield judge_beat(read_workers(runtime.database))


def judge_beat(running: Workers) -> Finding:
    """Say whether beat ticks. Only a worker can record a tick, so without one nothing is said against beat."""
    age = running.last_tick
    if not running.alive and (age is None or age > SILENT):
        return warning(
            "unknown whether beat is running: a worker handles its ticks, and none is running",
            "start a worker, then look again",
        )
    if age is None:
        return warning("beat has never ticked: lost doorbells aren't made up for", "start it: pgvector-sync beat")
    if age > SILENT:
        return warning(
            f"last beat tick {age.total_seconds():,.0f} s ago",
            "check that `pgvector-sync beat` and a worker, which handles its ticks, are running",
        )
    return ok(f"last beat tick {age.total_seconds():,.0f} s ago")
