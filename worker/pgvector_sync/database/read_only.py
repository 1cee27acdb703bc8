"""A pool for a process that only shows what is stored: it can't write, and waits briefly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg_pool import PoolTimeout

from pgvector_sync.database import Connection, Database, begin, connect, limit_statements


class ReadOnlyDatabase(Database):
    """A pool whose transactions are read-only, with a time limit per statement. What begins none gets one as well.

    While the database is out of reach, the pool alone would let each request wait, and then report only that there
    is no connection. After a failure, the next request therefore tries a connection of its own first, which fails
    at once and with the reason.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        lock_timeout: timedelta,
        max_connections: int,
        statement_limit: timedelta,
        connect_limit: timedelta,
    ) -> None:
        """`connect_limit` is the maximum wait for a connection; libpq's minimum is two seconds."""
        super().__init__(
            conninfo,
            lock_timeout=lock_timeout,
            max_connections=max_connections,
            silence=statement_limit * 2,
            connect_timeout=connect_limit,
        )
        self._statement_limit, self._connect_limit = statement_limit, connect_limit
        self._has_failed = True  # nothing is known yet

    @contextmanager
    def connection(self, *, silence: timedelta | None = None) -> Iterator[Connection]:
        """Yields a connection in a read-only transaction. Raises psycopg.OperationalError."""
        with self.transaction(silence=silence) as connection:
            yield connection

    @contextmanager
    def transaction(
        self,
        *,
        lock_timeout: timedelta | None = None,
        durable: bool = False,
        read_only: bool = True,
        by_key: bool = False,
        force_rollback: bool = False,
        one_snapshot: bool = False,
        silence: timedelta | None = None,
    ) -> Iterator[Connection]:
        """Runs a read-only transaction, see `begin`, whatever `durable` and `read_only` are."""
        del durable, read_only
        with (
            self._connected(silence) as connection,
            begin(
                connection,
                lock_timeout=lock_timeout or self.lock_timeout,
                read_only=True,
                by_key=by_key,
                force_rollback=force_rollback,
                one_snapshot=one_snapshot,
            ) as begun,
        ):
            limit_statements(begun, self._statement_limit)
            yield begun

    @contextmanager
    def _connected(self, silence: timedelta | None) -> Iterator[Connection]:
        if self._has_failed:
            self._try_to_connect()
        try:
            with super().connection(silence=silence) as connection:
                yield connection
        except PoolTimeout:
            self._has_failed = True
            self._try_to_connect()
            raise  # it can be reached, but all connections of the pool are in use
        except psycopg.OperationalError:
            self._has_failed = True
            raise

    def _try_to_connect(self) -> None:
        """Raises psycopg.OperationalError, with the reason, if there is no connection to be had."""
        connect(self.conninfo, timeout=self._connect_limit).close()
        self._has_failed = False
