"""Checks that workers are running, a relay is elected, and beat ticks."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.observe.doctor.messages import opened
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.observe.judge import judge_beat, judge_workers
from pgvector_sync.observe.status import read_status, read_workers
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings


def relay(settings: Settings) -> Iterator[Finding]:
    """Yield nothing without REDIS_URL or DATABASE_URL, which other checks report."""
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


def beat(runtime: Runtime) -> Iterator[Finding]:
    """Yield nothing without REDIS_URL, since `sync` doesn't need beat."""
    if runtime.settings.redis_url is None:
        return
    yield judge_beat(read_workers(runtime.database))
