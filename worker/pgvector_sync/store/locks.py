"""The locks we take, on rows and tables of our schema: a role needs UPDATE on them, while any that can connect can
hold an advisory lock. All of them last to the end of the transaction, so that they pass PgBouncer.

See docs/decisions/0031.
"""

from __future__ import annotations

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline

_DRAIN = 0
"""Ids of pipelines begin at 1."""


def lock_ledger(connection: Connection) -> None:
    """One migration at a time. Waits up to lock_timeout. Raises psycopg.errors.LockNotAvailable."""
    connection.execute(statement("locks.lock_ledger"))


def try_lock_drain(connection: Connection) -> bool:
    """True if this transaction may drain. To take the lock is a write: look first whether there is an event."""
    row = one(connection, statement("locks.try_lock"), {"id": _DRAIN})
    if not row["known"]:
        _lock(connection, _DRAIN)
    return bool(row["locked"]) or not row["known"]


def lock_drain(connection: Connection) -> None:
    """Keeps the drain out until commit. Raises psycopg.errors.LockNotAvailable."""
    _lock(connection, _DRAIN)


def lock_claims(connection: Connection, pipeline: Pipeline) -> None:
    """One claim of a pipeline at a time, so that those in flight can be counted. Raises LockNotAvailable."""
    _lock(connection, pipeline.id)


def _lock(connection: Connection, lock: int) -> None:
    """The row is added where there is none yet: a new pipeline, or a table that was restored empty."""
    if not connection.execute(statement("locks.lock"), {"id": lock}).rowcount:
        connection.execute(statement("locks.add"), {"id": lock})
        connection.execute(statement("locks.lock"), {"id": lock})
