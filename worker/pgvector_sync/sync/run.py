"""A run carried on for a while: its lease keeps others out, its watermark says where to go on."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import uuid4

import psycopg

from pgvector_sync.errors import LeaseLost, Refused
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.store import pipelines, runs
from pgvector_sync.store.database import IN_THE_WAY, OUTAGE
from pgvector_sync.store.runs import ClaimedRun, Kind
from pgvector_sync.store.shape import Shape
from pgvector_sync.sync import bulk, reconcile
from pgvector_sync.sync.runtime import Runtime, Walked
from pgvector_sync.telemetry import Event, log

AGAIN = timedelta(milliseconds=500)
"""When a run that waits for the workers looks again."""
AFTER_A_REFUSAL = timedelta(seconds=10)
WALKS = {Kind.FILL: bulk.walk, Kind.REEMBED: bulk.walk, Kind.RECONCILE: reconcile.walk}


def carry_out(runtime: Runtime, run_id: int, *, until: float) -> bool:
    """Carries a run on until it has ended, the workers are behind, or `until` (time.monotonic()).

    True when it has ended. A kill at any point costs at most one page.
    """
    with runtime.database.transaction() as connection:
        run = runs.claim(connection, run_id, uuid4(), lease_for=runtime.settings.lease)
        pipeline = None if run is None else pipelines.find_pipeline(connection, run.pipeline)
    if run is None or pipeline is None:
        return False
    reach(Failpoint.RUN_CLAIMED)
    shape = Shape(pipeline, runtime.database.vector_schema)
    walked = Walked(ended=False)
    try:
        walked = WALKS[run.kind](runtime, run, shape, until=until)
    except LeaseLost:
        return False
    except IN_THE_WAY:
        log.debug(Event.RUN_BUSY, pipeline=pipeline.name, run=run_id)
    except Refused as refused:
        walked = _fail(runtime, run, str(refused))
    except psycopg.errors.QueryCanceled as error:
        walked = _refused(runtime, run, error)
    except OUTAGE:
        raise
    except psycopg.Error as error:
        walked = _refused(runtime, run, error)
    finally:
        if not walked.ended:
            delay = AGAIN if walked.again is None else walked.again
            runtime.database.patiently(partial(runs.give_back, run=run, delay=delay))
    if walked.ended:
        log.info(Event.RUN_ENDED, pipeline=pipeline.name, run=run_id)
    return walked.ended


def _refused(runtime: Runtime, run: ClaimedRun, error: psycopg.Error) -> Walked:
    """The database refuses: a lost grant, row-level security (G12), a condition that fails on a row.

    A fill is never given up, since coverage counts on it; the others end and say why, in our words.
    """
    log.warning(Event.RUN_REFUSED, pipeline=run.pipeline, run=run.id, sqlstate=error.sqlstate)
    if run.kind is Kind.FILL:
        return Walked(ended=False, again=AFTER_A_REFUSAL)
    where = "; does its condition fail on a row?" if "where" in run.options else ""
    if isinstance(error, psycopg.errors.QueryCanceled):
        where = "; a single row takes too long"
    reason = f"the database refuses ({error.sqlstate}){where}: see `pgvector-sync doctor`, then ask for it again"
    return _fail(runtime, run, reason)


def _fail(runtime: Runtime, run: ClaimedRun, reason: str) -> Walked:
    return Walked(ended=runtime.database.patiently(partial(runs.fail, run=run, reason=reason)))
