"""The session that builds an index: a direct connection to the server, whose lock says that it lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, connect
from pgvector_sync.errors import Refused
from pgvector_sync.store import build_server
from pgvector_sync.store.server import process

NAME = "pgvector-sync builder"
IDLE = timedelta(minutes=1)
"""After having been idle for so long, the server ends the session: a frozen process must not keep the lock."""
NOTE_EVERY = timedelta(seconds=1)
VARIABLE = "PGVECTOR_SYNC_BUILD_DATABASE_URL"


@contextmanager
def build_session(conninfo: str) -> Iterator[Connection]:
    """Open a session for a build. Raises Refused if a pooler is in between, and psycopg.OperationalError.

    It isn't closed with a statement in progress: that is what the server does when our process dies, too.
    """
    connection = connect(conninfo, application_name=NAME)
    try:
        if process(connection) != connection.info.backend_pid:
            raise Refused(
                "index builds need a direct connection to the server, and this one goes through a pooler, which "
                "doesn't keep the settings and the lock of a session",
                hint=f"set {VARIABLE} to the address of the server itself, for the processes that build indexes",
            )
        build_server.settle(connection, idle=IDLE)
        yield connection
    finally:
        if connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
            connection.close()


class Statement:
    """A statement outside of a transaction, which runs in a thread, so that its caller can watch it."""

    def __init__(self, connection: Connection, query: sql.Composed) -> None:
        self._connection = connection
        self._query = query
        self.error: BaseException | None = None
        self._ended = threading.Event()
        # a daemon: the statement goes on in the server if this process ends
        threading.Thread(target=self._run, name="pgvector-sync-index-build", daemon=True).start()

    def _run(self) -> None:
        try:
            self._connection.execute(self._query, {})
        except BaseException as error:  # noqa: BLE001  the caller judges it
            self.error = error
        finally:
            self._ended.set()

    def watch(self, look: Callable[[], bool]) -> None:
        """Wait for the end. If `look`, which is called every NOTE_EVERY, is false, cancel the statement."""
        while not self._ended.wait(NOTE_EVERY.total_seconds()):
            if not look():
                self._connection.cancel_safe(timeout=5)

    def wait(self) -> None:
        """Wait for the end. Raises what the statement raised."""
        self._ended.wait()
        if self.error is not None:
            raise self.error
