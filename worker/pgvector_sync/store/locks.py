"""Locks on rows and tables of our schema.

They require UPDATE on these tables, whereas every role that can connect could hold an advisory lock. All of them
last until the end of the transaction, so that they work with PgBouncer. See docs/decisions/0031.
"""

from __future__ import annotations

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline

_DRAIN = 0
"""The id of the drain's lock. Those of pipelines begin at 1."""


def lock_ledger(connection: Connection) -> None:
    """Locks out other migrations until commit. Raises psycopg.errors.LockNotAvailable after lock_timeout."""
    connection.execute(statement("locks.lock_ledger"))


def try_lock_drain(connection: Connection) -> bool:
    """Returns whether this transaction may drain. Taking the lock is a write, so check for an event first."""
    row = one(connection, statement("locks.try_lock"), {"id": _DRAIN})
    if not row["known"]:
        _lock(connection, _DRAIN)
    return bool(row["locked"]) or not row["known"]


def lock_drain(connection: Connection) -> None:
    """Locks out the drain until commit. Raises psycopg.errors.LockNotAvailable after lock_timeout."""
    _lock(connection, _DRAIN)


def lock_claims(connection: Connection, pipeline: Pipeline) -> None:
    """Locks out other claims of a pipeline, so that its batches in flight can be counted.

    Raises psycopg.errors.LockNotAvailable after lock_timeout.
    """
    _lock(connection, pipeline.id)


def _lock(connection: Connection, lock: int) -> None:
    """Takes a lock. Adds its row if there is none: for a new pipeline, or after a restore without data."""
    if not connection.execute(statement("locks.lock"), {"id": lock}, prepare=True).rowcount:
        connection.execute(statement("locks.add"), {"id": lock})
        connection.execute(statement("locks.lock"), {"id": lock})
