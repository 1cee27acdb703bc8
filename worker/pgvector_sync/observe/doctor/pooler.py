"""The check `pooler`: whether connections go through a pooler, and in which mode.

A server sends its process ID when a session begins. A pooler has no server process yet and sends an invented ID,
so an ID other than `pg_backend_pid()` reveals a pooler of any brand.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.database import begin, connect
from pgvector_sync.observe.finding import Finding, ok
from pgvector_sync.runtime import Runtime
from pgvector_sync.store.server import process


def mode(runtime: Runtime) -> Iterator[Finding]:
    """Report the mode. Session and transaction mode both work; statement mode fails the check `database`."""
    conninfo = runtime.settings.database()
    with connect(conninfo) as first, connect(conninfo) as second:
        announced = first.info.backend_pid
        with begin(first, lock_timeout=runtime.settings.lock_timeout, read_only=True):
            own = process(first)
        if own == announced:
            yield ok("none: each connection has its own server process")
            return
        # In transaction mode the second session gets the first one's process, or the first gets another one next.
        with begin(second, lock_timeout=runtime.settings.lock_timeout, read_only=True):
            other = process(second)
            with begin(first, lock_timeout=runtime.settings.lock_timeout, read_only=True):
                again = process(first)
    if own == other or own != again:
        yield ok("a pooler in transaction mode, such as PgBouncer; this works: no state outlives a transaction")
    else:
        yield ok("a pooler, apparently in session mode; transaction mode also works, and needs fewer connections")
