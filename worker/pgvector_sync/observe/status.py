"""`status`: how fresh every pipeline is, in under a second on a large table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.database.loaders import duration
from pgvector_sync.errors import Refused
from pgvector_sync.model import State
from pgvector_sync.store import coverage, grants, pipelines, status, workers
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.workers import Workers

START_ONE = "start one: pgvector-sync worker (or, without Redis: pgvector-sync sync)"

COUNT_LIMIT_ROWS = 100_000
"""Waiting rows are counted up to here; beyond, the figure is a lower bound and marked as an estimate."""


@dataclass(frozen=True)
class PipelineStatus:
    """How one pipeline stands; docs/status.md explains each field."""

    name: str
    source: str
    target: str
    state: State
    reason: str | None
    rows: int
    fresh: int
    to_backfill: int
    waiting: int
    in_flight: int
    dead: int
    lag: timedelta | None
    rows_per_second: float
    saved_inputs: int
    stopped: bool
    """Nothing is embedded until somebody repairs what `reason` says."""
    estimated: tuple[str, ...]
    """Which of these are estimates, by their names in `status --json`."""

    @property
    def settled(self) -> bool:
        """Nothing waits, nothing is in flight, nothing is left to backfill: only dead letters may remain."""
        return not (self.waiting or self.in_flight or self.to_backfill) and self.state is not State.BACKFILLING


def read_status(
    database: Database, name: str | None = None, *, exact_text_limit: int | None = None
) -> list[PipelineStatus]:
    """All pipelines, or one. With `exact_text_limit` (the worker's, in bytes) every row is read and counted."""
    with database.transaction(read_only=True) as connection:
        if name is not None:
            pipelines.require_pipeline(connection, name)
        found = [_estimated(row) for row in status.pipelines(connection, name, limit=COUNT_LIMIT_ROWS)]
        if exact_text_limit is None:
            return found
        return [_exact(connection, database, each, exact_text_limit) for each in found]


def read_workers(database: Database) -> Workers:
    """Who works, whatever the pipelines."""
    with database.transaction(read_only=True) as connection:
        return workers.alive(connection)


def nobody_works(statuses: Sequence[PipelineStatus], alive: Workers) -> bool:
    """Whether rows wait that only a worker can embed, and none is there; a paused pipeline waits for a person."""
    return not alive.slots and any(not status.settled for status in statuses if status.state is not State.PAUSED)


def nobody(alive: Workers) -> str:
    """Why nothing is embedded, where no worker can."""
    return "no running worker serves the queues live and bulk" if alive.alive else "no worker is running"


def settled(database: Database, name: str | None) -> bool:
    """Whether nothing is left to do but dead letters."""
    return all(status.settled for status in read_status(database, name))


def nothing_to_wait_for(database: Database, name: str | None) -> bool:
    """The same, but a pipeline that is paused or stopped doesn't count: only a person ends that."""
    statuses = read_status(database, name)
    return all(status.settled or status.stopped or status.state is State.PAUSED for status in statuses)


def unfinished(status: PipelineStatus) -> list[str]:
    """What is left undone, and why, for a person; [] where every row is as it should be."""
    found = []
    if status.dead:
        found.append(
            f"{status.name}: {status.dead:,} dead letters, see `pgvector-sync dead-letters list {status.name}`"
        )
    if not status.settled:
        why = f" ({status.state}: {status.reason})" if status.reason else f" ({status.state})"
        found.append(
            f"{status.name}: {status.waiting + status.in_flight + status.to_backfill:,} rows still wait{why}"
        )
    return found


def _estimated(row: dict[str, Any]) -> PipelineStatus:
    waiting = row["events"] + max(0, row["alive"] - row["in_flight"])
    to_backfill = 0 if row["backfill_walked"] else max(0, (row["backfill_total"] or 0) - row["backfill_seen"])
    rows = max(row["estimated_rows"] or 0, 0)
    fresh = max(0, rows - waiting - row["in_flight"] - row["dead"] - to_backfill)
    estimated = ["rows", "fresh"]
    if to_backfill:
        estimated.append("to_backfill")
    if row["alive"] >= COUNT_LIMIT_ROWS or row["events"] >= COUNT_LIMIT_ROWS:
        estimated.append("waiting")
    if row["alive"] >= COUNT_LIMIT_ROWS:
        estimated.append("lag_seconds")
    state = State(row["state"])
    return PipelineStatus(
        name=row["name"],
        source=row["source"],
        target=row["target"],
        state=State.BACKFILLING if state is State.ACTIVE and row["backfilling"] else state,
        reason=row["reason"],
        rows=rows,
        fresh=fresh,
        to_backfill=to_backfill,
        waiting=waiting,
        in_flight=row["in_flight"],
        dead=row["dead"],
        lag=duration(row["lag_seconds"]),
        rows_per_second=round(row["rows_per_second"], 1),
        saved_inputs=row["saved_inputs"],
        stopped=row["problem_stops"],
        estimated=tuple(estimated),
    )


def _exact(
    connection: Connection, database: Database, estimated: PipelineStatus, text_limit: int
) -> PipelineStatus:
    pipeline = pipelines.require_pipeline(connection, estimated.name)
    grants.require_sole_author(connection)
    try:
        counted = coverage.count(connection, Shape(pipeline, database.vector_schema), text_limit=text_limit)
    except psycopg.errors.QueryCanceled:
        raise Refused(
            f"counting the rows of {pipeline.name} took longer than the role's statement_timeout, or was "
            "cancelled",
            hint="leave out --exact, or run it with a longer one: ALTER ROLE … SET statement_timeout = …",
        ) from None
    kept = tuple(name for name in estimated.estimated if name in ("waiting", "lag_seconds"))
    return replace(
        estimated, rows=counted.rows, fresh=counted.fresh, to_backfill=counted.to_backfill, estimated=kept
    )
