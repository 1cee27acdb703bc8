"""Counters of what was bought, saved and acknowledged, and the leases of scheduled jobs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline


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


def tokens_today(connection: Connection, pipeline: Pipeline) -> int:
    """Spent since midnight, UTC."""
    return int(one(connection, statement("usage.tokens_today"), {"pipeline_id": pipeline.id})["tokens"])


def rows_per_second(connection: Connection, pipeline: Pipeline) -> float | None:
    """In the busiest minute of the last hour; None if there is nothing to go by."""
    rate = one(connection, statement("usage.rows_per_second"), {"pipeline_id": pipeline.id})["rate"]
    return None if rate is None else float(rate)


def forget_minutes(connection: Connection) -> None:
    connection.execute(statement("usage.forget_minutes"))


def take_tick(connection: Connection, name: str, lease: UUID, *, every: timedelta) -> bool:
    """True for the first to ask in each interval; two beats are one in effect."""
    params = {"name": name, "lease": lease, "every": every}
    return connection.execute(statement("usage.take_tick"), params).rowcount == 1
