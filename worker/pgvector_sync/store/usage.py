"""Counters of what was bought, saved and acknowledged, and the leases of scheduled jobs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pgvector_sync.model import Pipeline
from pgvector_sync.store.database import Connection
from pgvector_sync.store.statements import statement


def note(
    connection: Connection,
    pipeline: Pipeline,
    *,
    requests: int,
    tokens: int,
    inputs: int,
    saved_inputs: int,
    rows: int,
) -> None:
    params = {
        "pipeline_id": pipeline.id,
        "requests": requests,
        "tokens": tokens,
        "inputs": inputs,
        "saved_inputs": saved_inputs,
        "rows": rows,
    }
    connection.execute(statement("usage.note"), params)


def forget_minutes(connection: Connection) -> None:
    connection.execute(statement("usage.forget_minutes"))


def take_tick(connection: Connection, name: str, lease: UUID, *, every: timedelta) -> bool:
    """True for the first to ask in each interval; two beats are one in effect."""
    params = {"name": name, "lease": lease, "every": every}
    return connection.execute(statement("usage.take_tick"), params).rowcount == 1
