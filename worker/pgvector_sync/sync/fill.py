"""Fill: every row of a source into the bulk lane, page by page, a bounded distance ahead of the workers."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import psycopg

from pgvector_sync.model import Pipeline
from pgvector_sync.store import pipelines, rows, runs
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
    try:
        return _walk(runtime, run, pipeline, until=until)
    except psycopg.errors.LockNotAvailable:
        return False
    finally:
        with runtime.database.transaction() as connection:
            runs.give_back(connection, run, delay=AGAIN)


def _walk(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, *, until: float) -> bool:
    shape = Shape(pipeline, runtime.database.vector_schema)
    watermark, walked = run.watermark, run.walked
    while not walked and time.monotonic() < until:
        with runtime.database.transaction() as connection:
            limit = runtime.settings.bulk_depth_rows
            if runs.bulk_depth(connection, pipeline, limit=limit) >= limit:
                return False
            keys = rows.page(connection, shape, watermark, limit=PAGE_ROWS)
            walked = len(keys) < PAGE_ROWS
            watermark = keys[-1] if keys else watermark
            enqueued = runs.enqueue(connection, pipeline, run.id, keys) if keys else 0
            held = runs.advance(
                connection,
                run,
                watermark=watermark,
                walked=walked,
                seen=len(keys),
                enqueued=enqueued,
                lease_for=runtime.settings.lease,
            )
            if not held:  # cancelled or taken over: this page must not commit
                raise psycopg.Rollback
        if not held:
            return False
        log.debug(Event.FILL_PAGE, pipeline=pipeline.name, run=run.id, rows=len(keys), enqueued=enqueued)
    if not walked:
        return False
    with runtime.database.transaction() as connection:
        finished = runs.finish(connection, run)
    if finished:
        log.info(Event.FILL_FINISHED, pipeline=pipeline.name, run=run.id)
    return finished
