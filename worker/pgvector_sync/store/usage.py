"""Counters of what was paid for, saved and acknowledged, and the ticks of scheduled jobs."""

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
    truncated_inputs: int,
    rows: int,
) -> None:
    """Adds one batch to the counters."""
    params = {
        "pipeline_id": pipeline.id,
        "requests": requests,
        "tokens": tokens,
        "inputs": inputs,
        "saved_inputs": saved_inputs,
        "truncated_inputs": truncated_inputs,
        "rows": rows,
    }
    connection.execute(statement("usage.note"), params)


def tokens_today(connection: Connection, pipeline: Pipeline) -> int:
    """Returns the tokens that a pipeline has spent since midnight UTC."""
    return int(one(connection, statement("usage.tokens_today"), {"pipeline_id": pipeline.id})["tokens"])


def rows_per_second(connection: Connection, pipeline: Pipeline) -> float | None:
    """Returns the rate of the busiest minute of the last hour; None if no row was processed."""
    rate = one(connection, statement("usage.rows_per_second"), {"pipeline_id": pipeline.id})["rate"]
    return None if rate is None else float(rate)


def forget_minutes(connection: Connection) -> None:
    """Deletes rates that are older than an hour."""
    connection.execute(statement("usage.forget_minutes"))


def take_tick(connection: Connection, name: str, lease: UUID, *, every: timedelta) -> bool:
    """Claims the tick of a scheduled job. Returns True once per interval, even if there are several beats."""
    params = {"name": name, "lease": lease, "every": every}
    return connection.execute(statement("usage.take_tick"), params).rowcount == 1
