"""The advisory locks we take, all of them transaction locks: session locks don't pass PgBouncer."""

from __future__ import annotations

from pgvector_sync.model import Pipeline
from pgvector_sync.store.database import Connection, one
from pgvector_sync.store.statements import statement

_CLASS = 0x70677673  # "pgvs"
_MIGRATE = 1
_DRAIN = 2
_CLAIMS = 0x70677663  # "pgvc", for each pipeline


def lock_migrations(connection: Connection) -> None:
    """Waits, up to the transaction's lock_timeout. Raises psycopg.errors.LockNotAvailable."""
    connection.execute(statement("migrations.lock_migrations"), {"classid": _CLASS, "objid": _MIGRATE})


def try_lock_drain(connection: Connection) -> bool:
    """True if this transaction may drain."""
    return bool(
        one(connection, statement("outbox.try_drain_lock"), {"classid": _CLASS, "objid": _DRAIN})["locked"]
    )


def lock_drain(connection: Connection) -> None:
    """Keeps the drain out until commit. Raises psycopg.errors.LockNotAvailable."""
    connection.execute(statement("outbox.drain_lock"), {"classid": _CLASS, "objid": _DRAIN})


def lock_claims(connection: Connection, pipeline: Pipeline) -> None:
    """One claim of a pipeline at a time, so that those in flight can be counted. Raises LockNotAvailable."""
    connection.execute(statement("work.claims_lock"), {"classid": _CLAIMS, "objid": pipeline.id})
