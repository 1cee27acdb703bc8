"""How is a connection opened, and a transaction run? READ COMMITTED, short lock waits, vectors in binary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from pgvector_sync.database.loaders import tolerate
from pgvector_sync.database.session import (
    Connection,
    VectorTypes,
    begin,
    find_vectors,
    limit_statements,
    one,
    reading,
    register_vectors,
)
from pgvector_sync.database.silence import check_connection
from pgvector_sync.errors import Refused

__all__ = [
    "CONNECT_TIMEOUT",
    "IN_THE_WAY",
    "KEY_REFUSED",
    "OUTAGE",
    "Connection",
    "Database",
    "VectorTypes",
    "begin",
    "connect",
    "limit_statements",
    "one",
    "reading",
    "register_vectors",
]

CONNECT_TIMEOUT = timedelta(seconds=10)
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A host that is gone is noticed within 30 seconds where something was sent to it (the kernel's own patience is 15
minutes), within a minute where nothing was."""
T = TypeVar("T")
IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
"""Somebody else's lock: nothing is wrong, it is tried again."""
KEY_REFUSED = (psycopg.errors.ProgramLimitExceeded, psycopg.DataError)
"""A key that our indexes don't take: it is too long, say."""
OUTAGE = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""The database is away, or is a standby by now: it comes back, and nothing was lost. Catch IN_THE_WAY before it,
which Postgres counts among operational errors."""
PATIENCE_TRIES = 40
INSTALL_HINT = "run `pgvector-sync migrate`"


def connect(conninfo: str) -> Connection:
    """A connection of our kind: autocommit outside `transaction`, READ COMMITTED inside, nothing prepared, since
    prepared statements don't pass PgBouncer's transaction mode.

    Raises psycopg.OperationalError.
    """
    connection = Connection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        row_factory=dict_row,
        connect_timeout=int(CONNECT_TIMEOUT.total_seconds()),
        application_name="pgvector-sync",
        **KEEPALIVE,
    )
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    tolerate(connection)
    return connection


class Database:
    """A pool of our connections. Open it after a fork, never before.

    With `silence`, a statement without an answer is given up after that long: for whoever has only short ones.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        lock_timeout: timedelta,
        max_connections: int = 4,
        silence: timedelta | None = None,
    ) -> None:
        self.conninfo = conninfo
        self.lock_timeout = lock_timeout
        self.silence = silence
        self._vectors: VectorTypes | None = None
        from psycopg_pool import ConnectionPool  # `health` has none, and starts without it

        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo,
            connection_class=Connection,
            min_size=0,
            max_size=max_connections,
            timeout=CONNECT_TIMEOUT.total_seconds(),
            # the pauses between its attempts double: after a long outage the pool would wait for minutes
            reconnect_timeout=CONNECT_TIMEOUT.total_seconds(),
            max_idle=300,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,
                "row_factory": dict_row,
                "connect_timeout": int(CONNECT_TIMEOUT.total_seconds()),
                "application_name": "pgvector-sync",
                **KEEPALIVE,
            },
            configure=self._configure,
            check=check_connection,
            open=True,
        )

    def _configure(self, connection: Connection) -> None:
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        tolerate(connection)
        connection.taught = self._vectors = register_vectors(connection)

    @property
    def vector_schema(self) -> str:
        """The schema that holds pgvector, as far as we know. Raises Refused where the extension is missing."""
        if self._vectors is None:
            with self.connection() as connection:
                connection.taught = self._vectors = register_vectors(connection)
        if self._vectors is None:
            raise Refused("the extension vector is not installed in this database", hint=INSTALL_HINT)
        return self._vectors.schema

    @property
    def vectors(self) -> VectorTypes | None:
        """What is known about pgvector, see `refresh_vectors`."""
        return self._vectors

    def refresh_vectors(self, connection: Connection) -> bool:
        """Looks up again where pgvector is; True if that had changed. Other connections learn it when they are
        next used: after a restore into the same database every OID is another.
        """
        found = find_vectors(connection)
        changed, self._vectors = found != self._vectors, found
        self._teach(connection)
        return changed

    def _teach(self, connection: Connection) -> None:
        """No query: the connection learns what another has looked up."""
        if connection.taught != self._vectors and self._vectors is not None:
            self._vectors.register(connection)
            connection.taught = self._vectors

    @property
    def closed(self) -> bool:
        return self._pool.closed

    @contextmanager
    def connection(self, *, silence: timedelta | None = None) -> Iterator[Connection]:
        """A connection in autocommit. Raises psycopg.OperationalError, or PoolTimeout, which is one."""
        with self._pool.connection() as connection, connection.waiting_at_most(silence or self.silence):
            self._teach(connection)
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction:
                connection.close()  # it leads to a host that is no longer the primary; the next may lead elsewhere
                raise

    @contextmanager
    def transaction(
        self,
        *,
        lock_timeout: timedelta | None = None,
        durable: bool = False,
        read_only: bool = False,
        by_key: bool = False,
        force_rollback: bool = False,
        silence: timedelta | None = None,
    ) -> Iterator[Connection]:
        """One short transaction of ours, see `begin`; `silence` in place of the database's own."""
        with (
            self.connection(silence=silence) as connection,
            begin(
                connection,
                lock_timeout=lock_timeout or self.lock_timeout,
                durable=durable,
                read_only=read_only,
                by_key=by_key,
                force_rollback=force_rollback,
            ) as begun,
        ):
            yield begun

    def patiently(self, action: Callable[[Connection], T]) -> T:
        """`action` in a transaction of its own, tried again while somebody else's short lock is in the way.

        For what must not be given up after one lock_timeout: acks of failures, releases, states.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(IN_THE_WAY),
            stop=stop_after_attempt(PATIENCE_TRIES),
            wait=wait_random(0, self.lock_timeout.total_seconds()),
            reraise=True,
        ):
            with attempt, self.transaction() as connection:
                return action(connection)
        raise AssertionError("unreachable")  # pragma: no cover - reraise=True

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
