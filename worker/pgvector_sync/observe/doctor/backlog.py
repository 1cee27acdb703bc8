"""Checks of waiting work: the age of the oldest outbox event, and expired leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.model.counted import counted
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import leases as stored_leases
from pgvector_sync.store.outbox import age as age_of_outbox

OLD = timedelta(minutes=1)
"""The relay usually drains an event within a quarter of a second."""
START = "start a worker: pgvector-sync worker (or, without Redis: pgvector-sync sync)"


def outbox(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        age = age_of_outbox(connection)
    if age is None:
        yield ok("empty")
    elif age > OLD:
        yield warning(f"the oldest event has waited {_words(age)} and isn't being drained", START)
    else:
        yield ok(f"the oldest event has waited {_words(age)}")


def leases(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        held = stored_leases.held(connection, abandoned_after=OLD)
    seen = counted(held.in_flight, "row is in flight", "rows are in flight")
    if held.abandoned:
        yield warning(
            f"{seen}; {held.abandoned:,} leases expired more than {_words(OLD)} ago and weren't taken over",
            f"{START}; rows of a paused pipeline wait until it is resumed",
        )
    else:
        yield ok(seen)


def _words(duration: timedelta) -> str:
    return str(timedelta(seconds=int(duration.total_seconds())))
