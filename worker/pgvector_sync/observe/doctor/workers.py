"""Whether anybody works: the relay that is elected, and the last tick of beat."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.observe.doctor.messages import opened
from pgvector_sync.observe.status import START_ONE, nobody, nobody_works, read_status, read_workers
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import workers

SILENT = timedelta(minutes=1)
"""Beat ticks every ten seconds."""


def relay(settings: Settings) -> Iterator[Finding]:
    """Nothing, without a Redis or a database: other checks say so."""
    if settings.redis_url is None or settings.database_url is None:
        return
    with opened(settings.redis(), "REDIS_URL") as (client, _):
        elected = client.exists(f"{settings.namespace()}:relay")
    if elected:
        yield ok("a worker runs, and polls the outbox")
    else:
        yield warning(
            "no worker with this DATABASE_URL and REDIS_URL polls the outbox",
            "pgvector-sync worker (or, without Redis: pgvector-sync sync)",
        )


def alive(runtime: Runtime) -> Iterator[Finding]:
    """By what workers note in the database."""
    found, waiting = read_workers(runtime.database), read_status(runtime.database)
    if found.slots:
        yield ok(f"alive: {found.alive}, with {found.slots} slots")
        return
    ago = "" if found.last_seen is None else f"; the last was seen {_ago(found.last_seen)} ago"
    if nobody_works(waiting, found):
        yield error(f"{nobody(found)}, and rows wait{ago}", START_ONE)
    else:
        yield warning(f"{nobody(found)}{ago}", START_ONE)


def _ago(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))


def beat(runtime: Runtime) -> Iterator[Finding]:
    """Nothing, without a Redis: `sync` needs no beat."""
    if runtime.settings.redis_url is None:
        return
    with runtime.database.transaction(read_only=True) as connection:
        age = workers.last_tick(connection)
    if age is None:
        yield warning("beat has never ticked: the safety net is missing", "pgvector-sync beat")
    elif age > SILENT:
        yield warning(
            f"the last tick was {_ago(age)} ago",
            "pgvector-sync beat; its ticks need a worker to take them",
        )
    else:
        yield ok(f"ticked {age.total_seconds():.0f} s ago")
