"""`status`: how fresh each pipeline is, in under a second even for large tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.database.loaders import duration
from pgvector_sync.errors import Refused
from pgvector_sync.model import State
from pgvector_sync.model.counted import counted
from pgvector_sync.store import coverage, grants, learned, pipelines, status, workers
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.status import COUNT_LIMIT_ROWS
from pgvector_sync.store.workers import Workers

START_A_WORKER = "start a worker: pgvector-sync worker (or, without Redis: pgvector-sync sync)"


@dataclass(frozen=True)
class PipelineStatus:
    """The status of one pipeline; docs/status.md explains each field."""

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
    truncated_inputs: int
    stopped: bool
    """Whether nothing is embedded until the problem in `reason` is fixed."""
    retry_at: datetime | None
    """When the provider is tried again, for a pipeline that is cooling down or misconfigured."""
    learned: tuple[str, ...]
    """What limits requests to the provider's model, as it was learned from its answers."""
    learned_settings: tuple[str, ...]
    """The lines of the file that make it known from the start."""
    estimated: tuple[str, ...]
    """The fields that are estimates, by their names in `status --json`."""

    @property
    def settled(self) -> bool:
        """Whether nothing waits, is in flight or is left to backfill. Dead letters may remain."""
        return not (self.waiting or self.in_flight or self.to_backfill) and self.state is not State.BACKFILLING


@dataclass(frozen=True, slots=True)
class Counting:
    """How to count every row instead of estimating. It reads the whole source, on the server."""

    text_limit_bytes: int
    vector_schema: str


def read_status(
    database: Database, name: str | None = None, *, exact_text_limit: int | None = None
) -> list[PipelineStatus]:
    """Read the status of all pipelines, or of the named one.

    exact_text_limit: count every row instead of estimating, with this text limit in bytes.
    Raises Refused for an unknown pipeline, or if counting takes longer than the role's statement_timeout.
    """
    counting = None if exact_text_limit is None else Counting(exact_text_limit, database.vector_schema)
    with database.transaction(read_only=True) as connection:
        return statuses(connection, name, counting=counting)


def statuses(
    connection: Connection, name: str | None = None, *, counting: Counting | None = None
) -> list[PipelineStatus]:
    """Read the status in a transaction, as `read_status` does."""
    if name is not None:
        pipelines.require_pipeline(connection, name)
    estimated = [_estimated(row) for row in status.pipelines(connection, name, limit=COUNT_LIMIT_ROWS)]
    return estimated if counting is None else [_exact(connection, each, counting) for each in estimated]


def read_workers(database: Database) -> Workers:
    """Read how many workers are running."""
    with database.transaction(read_only=True) as connection:
        return workers.alive(connection)


def lacks_workers(statuses: Sequence[PipelineStatus], alive: Workers) -> bool:
    """Whether rows wait for a worker and none is running. Rows of paused pipelines wait for `resume`."""
    return not alive.slots and any(not status.settled for status in statuses if status.state is not State.PAUSED)


def why_no_worker(alive: Workers) -> str:
    """Say why no worker can embed anything."""
    return "no running worker serves the queues live and bulk" if alive.alive else "no worker is running"


def settled(database: Database, name: str | None) -> bool:
    """Whether nothing is left to do except dead letters."""
    return all(status.settled for status in read_status(database, name))


def nothing_to_wait_for(database: Database, name: str | None, tried: Collection[str]) -> bool:
    """Like `settled`, but ignores pipelines that are paused or stopped, since waiting doesn't change that.

    tried: pipelines whose provider was called just now. If one is misconfigured, it isn't worth waiting either.
    """

    def waits_in_vain(status: PipelineStatus) -> bool:
        misconfigured = status.state is State.MISCONFIGURED and status.name in tried
        return misconfigured or status.stopped or status.state is State.PAUSED

    return all(status.settled or waits_in_vain(status) for status in read_status(database, name))


def truncated_texts(count: int) -> str:
    """Say how many texts the model didn't read to their end."""
    return f"{counted(count, 'text was', 'texts were')} cut, being longer than what the model reads"


def unfinished(status: PipelineStatus) -> list[str]:
    """Describe what isn't done, and why; [] if every row is up to date."""
    remaining = []
    if status.dead:
        letters = counted(status.dead, "dead letter")
        remaining.append(f"{status.name}: {letters}, see `pgvector-sync dead-letters list {status.name}`")
    if not status.settled:
        why = f" ({status.state}: {status.reason})" if status.reason else f" ({status.state})"
        count = status.waiting + status.in_flight + status.to_backfill
        rows = counted(count, "row still waits", "rows still wait")
        remaining.append(f"{status.name}: {rows}{why}")
    return remaining


def _estimated(row: dict[str, Any]) -> PipelineStatus:
    counts, state = status.counts(row), status.state_of(row)
    estimated = ["rows", "fresh"]
    if counts.to_backfill:
        estimated.append("to_backfill")
    if row["alive"] >= COUNT_LIMIT_ROWS or row["events"] >= COUNT_LIMIT_ROWS:
        estimated.append("waiting")
    if row["alive"] >= COUNT_LIMIT_ROWS:
        estimated.append("lag_seconds")
    known = learned.read(row["learned"])
    return PipelineStatus(
        name=row["name"],
        source=row["source"],
        target=row["target"],
        state=state,
        reason=row["reason"],
        rows=counts.rows,
        fresh=counts.fresh,
        to_backfill=counts.to_backfill,
        waiting=counts.waiting,
        in_flight=counts.in_flight,
        dead=counts.dead,
        lag=duration(counts.lag_seconds),
        rows_per_second=round(counts.rows_per_second, 1),
        saved_inputs=row["saved_inputs"],
        truncated_inputs=row["truncated_inputs"],
        stopped=row["problem_stops"],
        retry_at=row["retry_at"] if row["state"] in (State.COOLING_DOWN, State.MISCONFIGURED) else None,
        learned=tuple(known.words()),
        learned_settings=tuple(known.lines(row["provider"])),
        estimated=tuple(estimated),
    )


def _exact(connection: Connection, estimated: PipelineStatus, counting: Counting) -> PipelineStatus:
    pipeline = pipelines.require_pipeline(connection, estimated.name)
    grants.require_sole_author(connection)
    try:
        shape = Shape(pipeline, counting.vector_schema)
        counted = coverage.count(connection, shape, text_limit=counting.text_limit_bytes)
    except psycopg.errors.QueryCanceled:
        raise Refused(
            f"counting the rows of {pipeline.name} took longer than the role's statement_timeout, or was "
            "cancelled",
            hint="leave out --exact, or raise the limit: ALTER ROLE … SET statement_timeout = …",
        ) from None
    kept = tuple(name for name in estimated.estimated if name in ("waiting", "lag_seconds"))
    return replace(
        estimated, rows=counted.rows, fresh=counted.fresh, to_backfill=counted.to_backfill, estimated=kept
    )
