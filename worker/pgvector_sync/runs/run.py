"""A run carried on for a while: its lease keeps others out, its watermark says where to go on."""

from __future__ import annotations

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
from pgvector_sync.runtime import Runtime, Walked
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.settings.limits import LONGEST_RUN
from pgvector_sync.store import leases, pipelines, runs
from pgvector_sync.store.canonical import is_usable
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.runs import RunBusy, RunEnded, RunFailed, RunRefused

AGAIN = timedelta(milliseconds=500)
"""When a run that waits for the workers looks again."""
AFTER_A_REFUSAL = timedelta(seconds=10)


def carry_out(runtime: Runtime, run_id: int, *, until: Deadline) -> bool:
    """Carries a run on until it has ended, the workers are behind, or `until`.

    True when it has ended. A kill at any point costs at most one page.
    """
    with runtime.database.transaction() as connection:
        run = runs.claim(connection, run_id, new_lease(runtime.settings, ends_after=LONGEST_RUN))
        pipeline = None if run is None else pipelines.find_pipeline(connection, run.pipeline)
    if run is None or pipeline is None:
        return False
    if run.watermark is not None and not is_usable(run.watermark, pipeline.source.key):
        run = replace(run, watermark=None)  # somebody else's writing: from the beginning, which is only slower
    with runtime.keeper.keeping(run.lease):
        return _carry_out(runtime, run, pipeline, until=until)


def _carry_out(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, *, until: Deadline) -> bool:
    reach(Failpoint.RUN_CLAIMED)
    with runtime.database.transaction(read_only=True) as connection:
        runtime.database.refresh_vectors(connection)
    shape = Shape(pipeline, runtime.database.vector_schema)
    walked = Walked(ended=False)
    try:
        walked = _walk(runtime, run, shape, until=until)
    except LeaseLost:
        return False
    finally:
        delay = AGAIN if walked.again is None else walked.again
        _let_go(runtime, run, pipeline, delay)
    if walked.ended:
        emit(RunEnded(pipeline=pipeline.name, run=run.id))
    return walked.ended


def _walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> Walked:
    """Whatever goes wrong, the run ends with a reason or can go on: else it would block those behind it."""
    if isinstance(run.request, Unreadable):
        return _fail(runtime, run, f"{run.request.reason}: ask for it again")
    walk = reconcile.walk if isinstance(run.request, Reconcile) else bulk.walk
    try:
        return walk(runtime, run, shape, until=until)
    except LeaseLost:
        raise
    except LOCK_CONFLICT:
        emit(RunBusy(pipeline=run.pipeline, run=run.id))
        return Walked(ended=False)
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
    except Exception as error:  # noqa: BLE001 - nothing expects it
        emit(RunFailed(pipeline=run.pipeline, run=run.id, error=error))
        kind = type(error).__name__
        return _give_up(runtime, run, f"an unexpected error ({kind}): see the worker's log, then ask for it again")


def _let_go(runtime: Runtime, run: ClaimedRun, pipeline: Pipeline, delay: timedelta) -> None:
    """The next may carry it on after `delay`, if it hasn't ended. Raises OUTAGE where that is said later."""

    def let_go(connection: Connection) -> None:
        runs.give_back(connection, run, delay=delay)
        leases.end(connection, pipeline.id, run.lease)

    try:
        runtime.database.retry_on_lock_conflict(let_go)
    except OUTAGE:
        runtime.keeper.say_later(run.lease, let_go)
        raise


def _refused(runtime: Runtime, run: ClaimedRun, error: psycopg.Error) -> Walked:
    """The database refuses: a lost grant, row-level security (G12), a condition that fails on a row.

    A backfill is never given up, since coverage counts on it; the others end and say why, in our words.
    """
    emit(RunRefused(pipeline=run.pipeline, run=run.id, sqlstate=error.sqlstate))
    conditional = isinstance(run.request, Reembed) and run.request.where is not None
    where = "; does its condition fail on a row?" if conditional else ""
    if isinstance(error, psycopg.errors.QueryCanceled):
        where = "; a single row takes too long"
    reason = f"the database refuses ({error.sqlstate}){where}: see `pgvector-sync doctor`, then ask for it again"
    return _give_up(runtime, run, reason)


def _give_up(runtime: Runtime, run: ClaimedRun, reason: str) -> Walked:
    """A backfill tries again later, since coverage counts on it; the others end."""
    if isinstance(run.request, Backfill):
        return Walked(ended=False, again=AFTER_A_REFUSAL)
    return _fail(runtime, run, reason)


def _fail(runtime: Runtime, run: ClaimedRun, reason: str) -> Walked:
    return Walked(ended=runtime.database.retry_on_lock_conflict(partial(runs.fail, run=run, reason=reason)))
