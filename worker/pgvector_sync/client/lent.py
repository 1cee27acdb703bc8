"""Connections that an application hands in: used inside its own transaction, and left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, cast

import psycopg
from psycopg.rows import DictRow, dict_row

from pgvector_sync.database import Connection, begin, reading
from pgvector_sync.database.loaders import accept_any_value


class _Cursor(psycopg.Cursor[DictRow]):
    """Sends values separately, whatever cursor the application uses, and leaves no prepared statement behind."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params, **{**options, "prepare": False})


class _Lent:
    """What `store` uses of a connection. Its settings for reading values apply to our cursors only."""

    read_only: bool | None = None
    """Unused: it can't be set on a connection that is in a transaction."""
    isolation_level: psycopg.IsolationLevel | None = psycopg.IsolationLevel.READ_COMMITTED
    """Unused as well: the application's own level applies."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def cursor(self, **options: Any) -> psycopg.Cursor[DictRow]:
        cursor = _Cursor(self._connection, row_factory=dict_row)
        if options.get("binary"):
            cursor.format = psycopg.pq.Format.BINARY
        accept_any_value(cursor)
        return cursor

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None) -> psycopg.Cursor[DictRow]:
        """Run a statement, and never prepare it: the application may be behind a pooler."""
        del prepare
        return self.cursor().execute(query, params, prepare=False)

    def transaction(self, **options: Any) -> AbstractContextManager[psycopg.Transaction]:
        return self._connection.transaction(**options)


@contextmanager
def reading_on(connection: psycopg.Connection[Any], *, lock_timeout: timedelta) -> Iterator[Connection]:
    """A read-only transaction on an application's connection, or a savepoint if it is in a transaction.

    It is rolled back, which restores the settings of the application's transaction.
    """
    lent = cast(Connection, _Lent(connection))
    with begin(lent, lock_timeout=lock_timeout, force_rollback=True), reading(lent):
        yield lent
