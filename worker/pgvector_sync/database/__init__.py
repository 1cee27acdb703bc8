"""Connections and transactions: READ COMMITTED, short lock waits, vectors in binary."""

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

from pgvector_sync.database.loaders import accept_any_value
from pgvector_sync.database.packing import register_packed
from pgvector_sync.database.prepared import StaleStatementError, allow_prepared, is_missing, is_stale
from pgvector_sync.database.session import (
    Connection,
    VectorTypes,
    begin,
    find_vectors,
    is_direct,
    limit_statements,
    one,
    reading,
    register_vectors,
    tuples,
)
from pgvector_sync.database.silence import check_connection
from pgvector_sync.errors import Refused

__all__ = [
    "CONNECT_TIMEOUT",
    "KEY_REFUSED",
    "LOCK_CONFLICT",
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
    "tuples",
]

CONNECT_TIMEOUT = timedelta(seconds=10)
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A lost host is detected within 30 seconds if something was sent to it (the kernel's default is 15 minutes), and
within a minute otherwise."""
T = TypeVar("T")
LOCK_CONFLICT = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    StaleStatementError,
)
"""Another session's lock is in the way, or it has changed the schema. Nothing is wrong: retry the transaction."""
KEY_REFUSED = (psycopg.errors.ProgramLimitExceeded, psycopg.DataError)
"""A key that our indexes don't accept, for example because it is too long."""
OUTAGE = (
    psycopg.OperationalError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
"""The database is unreachable, or has become a standby. Nothing is lost: retry later. Catch LOCK_CONFLICT first,
since psycopg counts it among operational errors."""
LOCK_CONFLICT_TRIES = 40
INSTALL_HINT = "run `pgvector-sync migrate`"


def connect(
    conninfo: str, *, timeout: timedelta = CONNECT_TIMEOUT, application_name: str = "pgvector-sync"
) -> Connection:
    """Opens a connection: autocommit outside `transaction`, READ COMMITTED inside. It prepares no statements.

    Raises psycopg.OperationalError.
    """
    connection = Connection.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=None,
        row_factory=dict_row,
        connect_timeout=int(timeout.total_seconds()),
        application_name=application_name,
        **KEEPALIVE,
    )
    _prepare(connection)
    return connection


def _prepare(connection: Connection) -> None:
    """Sets up what all connections have in common, whether they are pooled or not."""
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    accept_any_value(connection)
    register_packed(connection)


class Database:
    """A pool of connections. Open it after a fork, never before.

    silence: how long to wait for a silent server before a statement is given up; None: no limit. Set it only for
    short statements. connect_timeout: how long to wait for a connection; None: CONNECT_TIMEOUT.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        lock_timeout: timedelta,
        max_connections: int = 4,
        silence: timedelta | None = None,
        connect_timeout: timedelta | None = None,
    ) -> None:
        limit = (connect_timeout or CONNECT_TIMEOUT).total_seconds()
        self.conninfo = conninfo
        self.lock_timeout = lock_timeout
        self.silence = silence
        self._vectors: VectorTypes | None = None
        self._may_prepare = True
        from psycopg_pool import ConnectionPool  # imported here: `health` needs no pool, and starts faster

        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo,
            connection_class=Connection,
            min_size=0,
            max_size=max_connections,
            timeout=limit,
            # the waits between attempts double, so after a long outage the pool would wait for minutes
            reconnect_timeout=limit,
            max_idle=300,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,
                "row_factory": dict_row,
                "connect_timeout": int(limit),
                "application_name": "pgvector-sync",
                **KEEPALIVE,
            },
            configure=self._configure,
            check=check_connection,
            open=True,
        )

    def _configure(self, connection: Connection) -> None:
        _prepare(connection)
        if self._may_prepare and is_direct(connection):
            allow_prepared(connection)
        connection.vector_types = self._vectors = register_vectors(connection)

    @property
    def vector_schema(self) -> str:
        """The schema of pgvector, as last looked up. Raises Refused if the extension is missing."""
        if self._vectors is None:
            with self.connection() as connection:
                connection.vector_types = self._vectors = register_vectors(connection)
        if self._vectors is None:
            raise Refused("the extension vector is not installed in this database", hint=INSTALL_HINT)
        return self._vectors.schema

    @property
    def vectors(self) -> VectorTypes | None:
        """The types of pgvector, as last looked up; None: not looked up, or not installed."""
        return self._vectors

    def refresh_vectors(self, connection: Connection) -> bool:
        """Looks up pgvector's types again; returns whether they have changed.

        After a restore into the same database, every OID is different. Other connections register the new types
        when they are next used.
        """
        current = find_vectors(connection)
        changed, self._vectors = current != self._vectors, current
        self._register(connection)
        return changed

    def _register(self, connection: Connection) -> None:
        """Registers the known vector types with a connection. Runs no query."""
        if connection.vector_types != self._vectors and self._vectors is not None:
            self._vectors.register(connection)
            connection.vector_types = self._vectors

    @property
    def closed(self) -> bool:
        return self._pool.closed

    @contextmanager
    def connection(self, *, silence: timedelta | None = None) -> Iterator[Connection]:
        """Yields a connection in autocommit. Raises psycopg.OperationalError, including PoolTimeout."""
        with self._pool.connection() as connection, connection.silence_limited_to(silence or self.silence):
            self._register(connection)
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction:
                connection.close()  # its host is no longer the primary; a new connection may reach another
                raise
            except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
                if not is_stale(error):
                    raise
                if is_missing(error):
                    self._may_prepare = False
                connection.close()
                raise StaleStatementError(f"a prepared statement no longer works ({error.sqlstate})") from None

    @contextmanager
    def transaction(
        self,
        *,
        lock_timeout: timedelta | None = None,
        durable: bool = False,
        read_only: bool = False,
        by_key: bool = False,
        force_rollback: bool = False,
        one_snapshot: bool = False,
        silence: timedelta | None = None,
    ) -> Iterator[Connection]:
        """Runs one short transaction, see `begin`. `silence` overrides that of the pool."""
        with (
            self.connection(silence=silence) as connection,
            begin(
                connection,
                lock_timeout=lock_timeout or self.lock_timeout,
                durable=durable,
                read_only=read_only,
                by_key=by_key,
                force_rollback=force_rollback,
                one_snapshot=one_snapshot,
            ) as begun,
        ):
            yield begun

    def retry_on_lock_conflict(self, action: Callable[[Connection], T]) -> T:
        """Runs `action` in a transaction of its own, and retries it while another session's lock is in the way.

        For what must not be given up after one lock_timeout: acks of failures, releases, states. Raises the last
        of LOCK_CONFLICT after LOCK_CONFLICT_TRIES tries.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(LOCK_CONFLICT),
            stop=stop_after_attempt(LOCK_CONFLICT_TRIES),
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
