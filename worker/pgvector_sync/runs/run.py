"""Carry out a run for a while. Its lease keeps other workers out, its watermark says where to continue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Connection
from pgvector_sync.errors import DatabaseRefuses, LeaseLost, Refused
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Pipeline
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Backfill, Reconcile, Reembed, Unreadable
from pgvector_sync.runs import bulk, reconcile
from pgvector_sync.runs.walk_result import WalkResult
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.settings.limits import LONGEST_RUN
from pgvector_sync.store import leases, pipelines, runs
from pgvector_sync.store.canonical import is_usable
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape
from pgvector_sync.telemetry import bound, emit, spans
from pgvector_sync.telemetry.events.runs import RunBusy, RunEnded, RunFailed, RunRefused
from pgvector_sync.telemetry.spans import Attributes

RECHECK_EVERY = timedelta(milliseconds=500)
"""How long a run that waits for the workers is left alone."""
RETRY_AFTER_REFUSAL = timedelta(seconds=10)


def carry_out(runtime: Runtime, run_id: int, *, until: Deadline) -> bool:
    """Carry out a run until it has ended, has to wait for the workers, or `until` has passed.

    Returns whether it has ended. A kill at any point costs one page at most.
    """
    started = spans.now()
    with runtime.database.transaction() as connection:
        run = runs.claim(connection, run_id, new_lease(runtime.settings, ends_after=LONGEST_RUN))
        pipeline = None if run is None else pipelines.find_pipeline(connection, run.pipeline)
    if run is None or pipeline is None:
        return False
    if run.watermark is not None and not is_usable(run.watermark, pipeline.source.key):
        run = replace(run, watermark=None)  # written by something else: start again, which is only slower
    with (
        bound(pipeline=pipeline.name, run=run.id),
        runtime.keeper.keeping(run.lease),
        _traced(runtime, run, started=started),
    ):
        return _carry_out(runtime, run, pipeline, until=until)


@contextmanager
def _traced(runtime: Runtime, run: ClaimedRun, *, started: int) -> Iterator[None]:
    """Record that the run is carried out for a while, unless it only waits for its last rows.

    Batches link to the span that has requested the run. If none has, they link to the first of these.
    """
    if run.walked or not spans.tracing():
        yield
        return
    attributes: Attributes = {
        "pgvector_sync.pipeline": run.pipeline,
        "pgvector_sync.run": run.id,
        "pgvector_sync.kind": run.kind.value,
    }
    links = [run.traceparent] if run.traceparent else []
    with spans.span(f"{run.kind.value} {run.pipeline}", attributes, links=links, started=started) as span:
        if run.traceparent is None and (traceparent := span.traceparent) is not None:
            with suppress(psycopg.Error), runtime.database.transaction() as connection:
                runs.note_trace(connection, run, traceparent)
        yield


def _carry_out(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, *, until: Deadline) -> bool:
    reach(Failpoint.RUN_CLAIMED)
    with runtime.database.transaction(read_only=True) as connection:
        runtime.database.refresh_vectors(connection)
    shape = Shape(pipeline, runtime.database.vector_schema)
    result = WalkResult(ended=False)
    try:
        result = _walk(runtime, run, shape, until=until)
    except LeaseLost:
        return False
    finally:
        delay = RECHECK_EVERY if result.resume_in is None else result.resume_in
        _release(runtime, run, pipeline, delay)
    if result.ended:
        emit(RunEnded(pipeline=pipeline.name, run=run.id))
    return result.ended


def _walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> WalkResult:
    """Walk the run. After any error it ends with a reason or can continue: otherwise it would block later runs."""
    if isinstance(run.request, Unreadable):
        return _fail(runtime, run, f"{run.request.reason}: start the run again")
    walk = reconcile.walk if isinstance(run.request, Reconcile) else bulk.walk
    try:
        return walk(runtime, run, shape, until=until)
    except LeaseLost:
        raise
    except LOCK_CONFLICT:
        emit(RunBusy(pipeline=run.pipeline, run=run.id))
        return WalkResult(ended=False)
    except Refused as refused:
        return _fail(runtime, run, str(refused))
    except DatabaseRefuses as refused:
        emit(RunRefused(pipeline=run.pipeline, run=run.id, sqlstate=refused.sqlstate))
        return _give_up(runtime, run, f"{refused}; {refused.hint}")
    except psycopg.errors.QueryCanceled as error:
        return _refused(runtime, run, error)
    except OUTAGE:
        raise
    except psycopg.Error as error:
        return _refused(runtime, run, error)
    except Exception as error:  # noqa: BLE001 - unexpected: a bug
        emit(RunFailed(pipeline=run.pipeline, run=run.id, error=error))
        kind = type(error).__name__
        return _give_up(
            runtime, run, f"an unexpected error ({kind}): see the worker's log, then start the run again"
        )


def _release(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, delay: timedelta) -> None:
    """Let any worker continue the run after `delay`. Raises OUTAGE if the keeper has to do it later."""

    def release(connection: Connection) -> None:
        runs.give_back(connection, run, delay=delay)
        leases.end(connection, pipeline.id, run.lease)

    try:
        runtime.database.retry_on_lock_conflict(release)
    except OUTAGE:
        runtime.keeper.do_later(run.lease, release)
        raise


def _refused(runtime: Runtime, run: ClaimedRun, error: psycopg.Error) -> WalkResult:
    """Give up after an error of the database: a lost grant, row-level security (G12), a failing condition."""
    emit(RunRefused(pipeline=run.pipeline, run=run.id, sqlstate=error.sqlstate))
    conditional = isinstance(run.request, Reembed) and run.request.where is not None
    detail = "; its condition may fail on a row" if conditional else ""
    if isinstance(error, psycopg.errors.QueryCanceled):
        detail = "; a single row takes too long"
    reason = (
        f"the database refused a statement ({error.sqlstate}){detail}: "
        "see `pgvector-sync doctor`, then start the run again"
    )
    return _give_up(runtime, run, reason)


def _give_up(runtime: Runtime, run: ClaimedRun, reason: str) -> WalkResult:
    """End the run with a reason. A backfill is tried again later, since coverage depends on it."""
    if isinstance(run.request, Backfill):
        return WalkResult(ended=False, resume_in=RETRY_AFTER_REFUSAL)
    return _fail(runtime, run, reason)


def _fail(runtime: Runtime, run: ClaimedRun, reason: str) -> WalkResult:
    return WalkResult(ended=runtime.database.retry_on_lock_conflict(partial(runs.fail, run=run, reason=reason)))
