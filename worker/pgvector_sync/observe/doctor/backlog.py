"""What waits: the oldest event of the outbox, and the leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pgvector_sync.database import one
from pgvector_sync.database.statements import statement
from pgvector_sync.observe.doctor.check import Finding, ok, warning
from pgvector_sync.runtime import Runtime

OLD = timedelta(minutes=1)
"""The relay moves an event in a tenth of a second."""
WORKER = "pgvector-sync worker (or, without Redis: pgvector-sync sync)"


def outbox(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        found = one(connection, statement("doctor.oldest_event"))
    age: timedelta | None = found["age"]
    if age is None:
        yield ok("empty")
    elif age > OLD:
        yield warning(f"its oldest event has waited for {_words(age)}: nobody drains it", f"start {WORKER}")
    else:
        yield ok(f"its oldest event has waited for {_words(age)}")


def leases(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        found = one(connection, statement("doctor.leases"), {"abandoned_after": OLD})
    seen = f"{found['in_flight']:,} rows are in flight"
    if found["abandoned"]:
        yield warning(
            f"{seen}; {found['abandoned']:,} leases ran out over {_words(OLD)} ago, and nobody takes the rows",
            f"start {WORKER}; a paused pipeline keeps them until it is resumed",
        )
    else:
        yield ok(seen)


def _words(duration: timedelta) -> str:
    return str(timedelta(seconds=int(duration.total_seconds())))
