"""Begins transactions: READ COMMITTED, short lock waits, pinned rendering; and registers the vector types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.rows import DictRow
from psycopg.types import TypeInfo

from pgvector_sync.database.silence import ListeningConnection
from pgvector_sync.database.statements import statement

Connection = ListeningConnection[DictRow]

IDLE_IN_TRANSACTION = timedelta(seconds=5)
"""Then the server ends a transaction that we have left alone, being frozen or cut off: until then its locks may
keep the application waiting."""


@contextmanager
def begin(
    connection: Connection,
    *,
    lock_timeout: timedelta,
    durable: bool = False,
    read_only: bool = False,
    by_key: bool = False,
    force_rollback: bool = False,
) -> Iterator[Connection]:
    """One short transaction on `connection`; `by_key` where it looks rows up by their keys.

    Not `durable`: the commit doesn't wait for the disk. All that we write is derived and each transaction
    is whole, so a crash of the server loses at most work that is then done again (docs/decisions/0002).
    """
    # None rather than False: whoever has made the database or the role read-only by default is listened to
    connection.read_only = True if read_only else None
    with connection.transaction(force_rollback=force_rollback):
        connection.execute(
            statement("session.begin"),
            {
                "lock_timeout": f"{int(lock_timeout / timedelta(milliseconds=1))}ms",
                "enable_seqscan": "off" if by_key else None,
                "synchronous_commit": "on" if durable else "off",
                "idle_in_transaction": f"{int(IDLE_IN_TRANSACTION / timedelta(milliseconds=1))}ms",
            },
        )
        yield connection


def limit_statements(connection: Connection, limit: timedelta) -> None:
    """To the end of the transaction, what takes longer raises psycopg.errors.QueryCanceled.

    A limit is never raised again, and a lower one that database or role have stays.
    """
    milliseconds = int(limit / timedelta(milliseconds=1))
    connection.execute(statement("session.limit_statements"), {"statement_timeout": f"{milliseconds}ms"})


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """A part of a transaction in which nothing can be written, settings included: reading a source, and even
    planning to, may call functions of its owner's with our rights.
    """
    with connection.transaction(force_rollback=True):
        connection.execute(statement("session.read_only"))
        yield


@dataclass(frozen=True, slots=True)
class VectorTypes:
    """What the catalog says about pgvector: its schema and OIDs, which a restore or `SET SCHEMA` changes."""

    schema: str
    oids: tuple[tuple[str, int, int], ...]
    """(name, OID, OID of the array type) of each vector type."""

    def register(self, connection: Connection) -> None:
        """Teaches `connection` the types in binary."""
        for name, oid, array_oid in self.oids:
            register = register_vector_info if name == "vector" else register_halfvec_info
            register(connection, TypeInfo(name, oid, array_oid))


def find_vectors(connection: Connection) -> VectorTypes | None:
    """None where the extension is missing."""
    found = connection.execute(statement("session.vector_type")).fetchall()
    if not found:
        return None
    oids = ((row["name"], row["oid"], row["array_oid"]) for row in found if row["oid"] is not None)
    return VectorTypes(str(found[0]["schema"]), tuple(oids))


def register_vectors(connection: Connection) -> VectorTypes | None:
    """Teaches `connection` the vector types; returns them, None if the extension is missing."""
    found = find_vectors(connection)
    if found is not None:
        found.register(connection)
    return found


def one(connection: Connection, query: sql.SQL | sql.Composed, params: dict[str, Any] | None = None) -> DictRow:
    """The one row of a statement that always answers with one."""
    row: DictRow | None = connection.execute(query, params).fetchone()
    if row is None:  # pragma: no cover - the statement is ours
        raise AssertionError("the statement gave no row")
    return row
