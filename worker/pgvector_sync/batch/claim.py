"""Claim: take due rows with a lease, for one version of the spec."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.database import Connection
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key, Lane, Pipeline, State
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.learned import batches_at_once
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.store import locks, pipelines, usage, work
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.work import ClaimedRow, Holding
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import RowsParked

PROBE_ROWS = 1


@dataclass(frozen=True)
class Batch:
    """Claimed rows, with everything that fences off a late write: lease, generations and spec version."""

    pipeline: Pipeline
    shape: Shape
    lane: Lane
    rows: dict[Key, ClaimedRow]
    holding: Holding
    probe: bool
    """The only batch that a pipeline in cool-down may send."""
    size: int
    """The maximum number of rows of this claim. If it is reached, more rows may be due."""
    until: Deadline
    """When the batch has to end, before its lease does."""

    @property
    def runs(self) -> list[int]:
        """The runs that have enqueued any of its rows."""
        return sorted({row.run_id for row in self.rows.values() if row.run_id is not None})

    @property
    def names(self) -> dict[str, str | int]:
        """The fields that all of its lines have: lane and batch, and the run if it has rows of a single one."""
        runs = self.runs
        return {
            "lane": self.lane.value,
            "batch": str(self.holding.lease),
            **({"run": runs[0]} if len(runs) == 1 else {}),
        }


def claim(runtime: Runtime, name: str, lane: Lane, *, share: int | None = None) -> Batch | None:
    """Claim due rows of a lane. A claim of the bulk lane takes live rows first if any are due.

    `share` is the maximum number of batches of the pipeline in flight. Returns None if nothing is due, if that
    number is reached, or if the pipeline must not call its provider now.
    """
    settings = runtime.settings
    until = Deadline.after(settings.deadline)
    with runtime.database.transaction(by_key=True) as connection:
        pipeline = pipelines.find_pipeline(connection, name)
        if pipeline is None or pipeline.state in (State.PAUSED, State.REMOVING) or pipeline.problem_stops:
            return None
        locks.lock_claims(connection, pipeline)
        share = batches_at_once(
            share or settings.in_flight_batches, pipeline.learned.parallel, live=lane is Lane.LIVE
        )
        held = work.held(connection, pipeline)
        if held.batches >= share:
            return None
        probe = pipeline.state in (State.COOLING_DOWN, State.MISCONFIGURED)
        if probe and not pipelines.take_probe(connection, pipeline, hold_for=settings.probe):
            return None
        batch = _take(runtime, connection, pipeline, Lane.LIVE, probe=probe, until=until, lost=held.lost)
        if batch is None and lane is Lane.BULK and not _daily_tokens_used_up(connection, pipeline):
            batch = _take(runtime, connection, pipeline, Lane.BULK, probe=probe, until=until, lost=held.lost)
        if batch is None and probe:
            pipelines.release_probe(connection, pipeline)
    if batch is not None:
        reach(Failpoint.CLAIM_COMMITTED)
    return batch


def _daily_tokens_used_up(connection: Connection, pipeline: Pipeline) -> bool:
    """Whether the bulk lane waits until tomorrow. Batches in flight aren't counted and may exceed the limit."""
    limit = pipeline.options.tokens_per_day
    return limit is not None and usage.tokens_today(connection, pipeline) >= limit


def _take(
    runtime: Runtime,
    connection: Connection,
    pipeline: Pipeline,
    lane: Lane,
    *,
    probe: bool,
    until: Deadline,
    lost: bool,
) -> Batch | None:
    settings = runtime.settings
    if lost and (parked := work.park_crashed(connection, pipeline, lane, max_attempts=settings.attempts)):
        emit(RowsParked(pipeline=pipeline.name, rows=parked, error_class="worker_crashed"))
    lease = new_lease(settings)
    size = PROBE_ROWS if probe else runtime.batch_size(pipeline, lane)
    rows = work.claim(
        connection,
        pipeline,
        lane,
        lease,
        limit=size,
        max_attempts=settings.attempts,
        hints=runtime.due_hints,
        lost=lost,
    )
    if not rows:
        return None
    reach(Failpoint.CLAIM_TAKEN)
    runtime.database.refresh_vectors(connection)  # before anything is bought: they change in a restore
    return Batch(
        pipeline,
        Shape(pipeline, runtime.database.vector_schema),
        lane,
        {row.key: row for row in rows},
        Holding(pipeline, lease.id),
        probe,
        size,
        until,
    )
