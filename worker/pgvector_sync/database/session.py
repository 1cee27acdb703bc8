"""Begins transactions with short lock waits and pinned settings, and registers the vector types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import IsolationLevel, sql
from psycopg.rows import DictRow, tuple_row
from psycopg.types import TypeInfo

from pgvector_sync.database.packing import register_packed_vectors
from pgvector_sync.database.silence import ListeningConnection
from pgvector_sync.database.statements import statement

Connection = ListeningConnection[DictRow]

IDLE_IN_TRANSACTION = timedelta(seconds=5)
"""How long a transaction may be idle before the server ends it. A frozen or disconnected worker holds its locks
that long, and the application may have to wait for them."""


@contextmanager
def begin(
    connection: Connection,
    *,
    lock_timeout: timedelta,
    durable: bool = False,
    read_only: bool = False,
    by_key: bool = False,
    force_rollback: bool = False,
    one_snapshot: bool = False,
) -> Iterator[Connection]:
    """Runs one short transaction on `connection`. Set `by_key` if it looks up rows by key, and `one_snapshot` if
    all its statements must see the same rows.

    Unless `durable`, the commit doesn't wait for the disk. Everything we write is derived, and a transaction is
    never written in part, so a crash of the server loses at most work that is then repeated (docs/decisions/0002).
    """
    # None rather than False: a database or role that is read-only by default stays so
    connection.read_only = True if read_only else None
    level = IsolationLevel.REPEATABLE_READ if one_snapshot else IsolationLevel.READ_COMMITTED
    if connection.isolation_level is not level:
        connection.isolation_level = level
    with connection.transaction(force_rollback=force_rollback):
        connection.execute(
            statement("session.begin"),
            {
                "lock_timeout": f"{int(lock_timeout / timedelta(milliseconds=1))}ms",
                "enable_seqscan": "off" if by_key else None,
                "synchronous_commit": "on" if durable else "off",
                "idle_in_transaction": f"{int(IDLE_IN_TRANSACTION / timedelta(milliseconds=1))}ms",
            },
            prepare=True,
        )
        yield connection


def limit_statements(connection: Connection, limit: timedelta) -> None:
    """Limits the statements of the rest of the transaction. A longer one raises psycopg.errors.QueryCanceled.

    A lower limit that is already set, by the database or role for example, stays.
    """
    milliseconds = int(limit / timedelta(milliseconds=1))
    params = {"statement_timeout": f"{milliseconds}ms"}
    connection.execute(statement("session.limit_statements"), params, prepare=True)


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """A read-only part of a transaction, which can't change settings either.

    Reading a source, and even planning to, may call functions of the source's owner with our rights.
    """
    with connection.transaction(force_rollback=True):
        connection.execute(statement("session.read_only"))
        yield


@dataclass(frozen=True, slots=True)
class VectorTypes:
    """The schema and OIDs of pgvector's types, which a restore or `SET SCHEMA` changes."""

    schema: str
    oids: tuple[tuple[str, int, int], ...]
    """(name, OID, OID of the array type) of each vector type."""

    def register(self, connection: Connection) -> None:
        """Makes `connection` read and write the types in binary."""
        for name, oid, array_oid in self.oids:
            register = register_vector_info if name == "vector" else register_halfvec_info
            register(connection, TypeInfo(name, oid, array_oid))
            if name == "vector":
                register_packed_vectors(connection, oid=oid, array_oid=array_oid)


def is_direct(connection: Connection) -> bool:
    """Whether no pooler is in between: the process that executes our statements is the one that has accepted us.

    A pooler can't know that process when it accepts a connection, so it makes up the number that it tells us.
    """
    return bool(one(connection, statement("session.backend_pid"))["pid"] == connection.info.backend_pid)


def find_vectors(connection: Connection) -> VectorTypes | None:
    """Looks up the vector types; None if the extension is missing."""
    rows = connection.execute(statement("session.vector_type"), prepare=True).fetchall()
    if not rows:
        return None
    oids = ((row["name"], row["oid"], row["array_oid"]) for row in rows if row["oid"] is not None)
    return VectorTypes(str(rows[0]["schema"]), tuple(oids))


def register_vectors(connection: Connection) -> VectorTypes | None:
    """Looks up the vector types and registers them with `connection`; None if the extension is missing."""
    types = find_vectors(connection)
    if types is not None:
        types.register(connection)
    return types


def one(
    connection: Connection,
    query: sql.SQL | sql.Composed,
    params: dict[str, Any] | None = None,
    *,
    prepare: bool = False,
) -> DictRow:
    """Runs a statement that always returns one row; returns that row. `prepare`: see `database.prepared`."""
    row: DictRow | None = connection.execute(query, params, prepare=prepare).fetchone()
    if row is None:  # pragma: no cover - the statement is ours
        raise AssertionError("the statement returned no row")
    return row


def tuples(
    connection: Connection, query: sql.SQL | sql.Composed, params: dict[str, Any], *, prepare: bool = False
) -> list[tuple[Any, ...]]:
    """Runs a statement with a row per key; returns its rows as tuples, at half the cost of dicts.

    prepare: see `database.prepared`.
    """
    cursor: Any = connection.execute(query, params, prepare=prepare)
    cursor.row_factory = tuple_row
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
