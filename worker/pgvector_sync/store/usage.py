"""Counters of what was paid for, saved and acknowledged, and the ticks of scheduled jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import composed_once, statement
from pgvector_sync.model import Pipeline
from pgvector_sync.store import totals


@dataclass(frozen=True, slots=True)
class Spent:
    """What one batch has sent, bought and saved."""

    requests: int
    tokens: int
    usd: Decimal
    inputs: int
    saved_unchanged: int
    saved_equal: int
    saved_stored: int
    truncated_inputs: int
    rows: int
    """Acknowledged rows."""
    calls: Sequence[tuple[str, float]]
    """Outcome and seconds of each call."""


def note(connection: Connection, pipeline: Pipeline, spent: Spent) -> None:
    """Adds one batch to the counters."""
    params = {
        "pipeline_id": pipeline.id,
        "requests": spent.requests,
        "tokens": spent.tokens,
        "usd": spent.usd,
        "inputs": spent.inputs,
        "saved_unchanged": spent.saved_unchanged,
        "saved_equal": spent.saved_equal,
        "saved_stored": spent.saved_stored,
        "truncated_inputs": spent.truncated_inputs,
        "rows": spent.rows,
        "outcomes": [outcome for outcome, _ in spent.calls],
        "seconds": [seconds for _, seconds in spent.calls],
    }
    connection.execute(_note(), params, prepare=True)


@composed_once
def _note() -> sql.Composed:
    return statement("usage.note").format(
        call_buckets=totals.buckets_of("c.seconds", totals.CALL_BOUNDS_SECONDS),
    )


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
