"""Whether a pooler stands between, and whether it hands each transaction to another server process.

A server tells every client the number of its process when the session begins. A pooler has no process to name yet,
and makes one up: so a number other than `pg_backend_pid()` is a pooler, of whatever brand.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.database import begin, connect
from pgvector_sync.observe.doctor.check import Finding, ok
from pgvector_sync.runtime import Runtime
from pgvector_sync.store.server import process


def between(runtime: Runtime) -> Iterator[Finding]:
    """Either way is fine; what can't work (statement mode) fails in every other check."""
    conninfo = runtime.settings.database()
    with connect(conninfo) as first, connect(conninfo) as second:
        told = first.info.backend_pid
        with begin(first, lock_timeout=runtime.settings.lock_timeout, read_only=True):
            own = process(first)
        if own == told:
            yield ok("none: a connection is a server process of its own")
            return
        # the second session, in a transaction of its own, either gets the first one's process or keeps it from it
        with begin(second, lock_timeout=runtime.settings.lock_timeout, read_only=True):
            other = process(second)
            with begin(first, lock_timeout=runtime.settings.lock_timeout, read_only=True):
                again = process(first)
    if own == other or own != again:
        yield ok(
            "a pooler in transaction mode, such as PgBouncer, which works: nothing of ours outlives a transaction"
        )
    else:
        yield ok(
            "a pooler, as it seems in session mode; transaction mode works as well, and needs fewer connections"
        )
