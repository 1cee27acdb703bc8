"""Fill: every row of a source into the bulk lane, page by page, a bounded distance ahead of the workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import uuid4

from pgvector_sync.errors import LeaseLost
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store import outbox, pipelines, rows, runs
from pgvector_sync.store.database import IN_THE_WAY, KEY_REFUSED, Connection
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape
from pgvector_sync.sync.runtime import Runtime
from pgvector_sync.telemetry import Event, log

PAGE_ROWS = 1_000
AGAIN = timedelta(milliseconds=500)
"""When a run that waits for the workers looks again."""


def carry_out(runtime: Runtime, run_id: int, *, until: float) -> bool:
    """Carries a run on until it is finished, the workers are behind, or `until` (time.monotonic()).

    True when it has finished. The run's lease keeps others out; a kill at any point costs at most one page.
    """
    settings = runtime.settings
    with runtime.database.transaction() as connection:
        run = runs.claim(connection, run_id, uuid4(), lease_for=settings.lease)
        pipeline = None if run is None else pipelines.find_pipeline(connection, run.pipeline)
    if run is None or pipeline is None:
        return False
    reach(Failpoint.FILL_CLAIMED)
    finished = False
    try:
        finished = _walk(runtime, run, pipeline, until=until)
    except LeaseLost:
        return False
    except IN_THE_WAY:
        log.debug(Event.FILL_BUSY, pipeline=pipeline.name, run=run_id)
    finally:
        if not finished:
            runtime.database.patiently(partial(runs.give_back, run=run, delay=AGAIN))
    if finished:
        log.info(Event.FILL_FINISHED, pipeline=pipeline.name, run=run_id)
    return finished


def _walk(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, *, until: float) -> bool:
    shape = Shape(pipeline, runtime.database.vector_schema)
    walked = run.walked
    while not walked and time.monotonic() < until:
        page = runtime.database.patiently(partial(_page, runtime, run, shape))
        if page is None:
            return False
        run, walked = page
        reach(Failpoint.FILL_COMMITTED)
    return walked and runtime.database.patiently(partial(runs.finish, run=run))


def _page(
    runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection
) -> tuple[ClaimedRun, bool] | None:
    """Enqueues one page and moves the watermark, together or not at all; None where it must wait or stop."""
    limit = runtime.settings.bulk_depth_rows
    if runs.bulk_depth(connection, shape.pipeline, limit=limit) >= limit:
        return None
    keys = rows.page(connection, shape, run.watermark, limit=PAGE_ROWS)
    walked = len(keys) < PAGE_ROWS
    moved = replace(run, watermark=keys[-1] if keys else run.watermark)
    enqueued = _enqueue(connection, shape.pipeline, run, keys)
    held = runs.advance(
        connection,
        moved,
        walked=walked,
        seen=len(keys),
        enqueued=enqueued,
        lease_for=runtime.settings.lease,
    )
    if not held:  # cancelled or taken over: this page must not commit
        raise LeaseLost(f"run {run.id} is no longer ours")
    reach(Failpoint.FILL_ENQUEUED)
    log.debug(Event.FILL_PAGE, pipeline=run.pipeline, run=run.id, rows=len(keys), enqueued=enqueued)
    return moved, walked


def _enqueue(connection: Connection, pipeline: Pipeline, run: ClaimedRun, keys: Sequence[Key]) -> int:
    """A key that doesn't fit into work is found by halving, and left in the outbox as a dead letter."""
    if not keys:
        return 0
    try:
        with connection.transaction():
            return runs.enqueue(connection, pipeline, run.id, keys)
    except KEY_REFUSED as error:
        if len(keys) == 1:
            error_class = f"key_refused_{error.sqlstate}"
            outbox.add_parked(connection, pipeline.source.id, keys[0], error_class)
            log.warning(Event.PARKED, pipeline=pipeline.name, rows=1, error_class=error_class)
            return 0
    middle = len(keys) // 2
    return sum(_enqueue(connection, pipeline, run, half) for half in (keys[:middle], keys[middle:]))
