"""What `status` shows per pipeline. Imports little, because `health` runs every few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from pgvector_sync.database.statements import statement
from pgvector_sync.model import State
from pgvector_sync.store import leaf

COUNT_LIMIT_ROWS = 100_000
"""Waiting rows are counted up to this limit; beyond it the number is a lower bound, marked as an estimate."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of one pipeline, of which some are estimates (docs/status.md)."""

    name: str
    rows: int
    fresh: int
    to_backfill: int
    waiting: int
    in_flight: int
    dead: int
    lag_seconds: float | None
    rows_per_second: float


def pipelines(
    connection: psycopg.Connection[dict[str, Any]], name: str | None = None, *, limit: int
) -> list[dict[str, Any]]:
    """Returns one row per pipeline, or the row of one. Waiting rows are counted up to `limit`."""
    query = statement("status.pipelines").format(leaf_rows=leaf.rows())
    return connection.execute(query, {"name": name, "limit": limit}).fetchall()


def state_of(row: dict[str, Any]) -> State:
    """Returns the state that a row of `pipelines` shows."""
    state = State(row["state"])
    return State.BACKFILLING if state is State.ACTIVE and row["backfilling"] else state


def counts(row: dict[str, Any]) -> Counts:
    """Returns the counts of a row of `pipelines`. Rows that neither wait nor are dead count as fresh."""
    waiting = row["events"] + max(0, row["alive"] - row["in_flight"])
    to_backfill = 0 if row["backfill_walked"] else max(0, (row["backfill_total"] or 0) - row["backfill_seen"])
    rows = max(row["estimated_rows"] or 0, 0)
    return Counts(
        name=row["name"],
        rows=rows,
        fresh=max(0, rows - waiting - row["in_flight"] - row["dead"] - to_backfill),
        to_backfill=to_backfill,
        waiting=waiting,
        in_flight=row["in_flight"],
        dead=row["dead"],
        lag_seconds=row["lag_seconds"],
        rows_per_second=row["rows_per_second"],
    )
