"""Bulk: rows of a source into the bulk lane, page by page, a bounded distance ahead of the workers.

A backfill takes every row that `where` accepts or that has vectors to lose, a re-embed the rows it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.errors import LeaseLost, Refused
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import ever_fewer, fewer
from pgvector_sync.model import Key
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Reembed
from pgvector_sync.runs.enqueue import enqueue
from pgvector_sync.runtime import Runtime, Walked, page_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.runtime.expression import fault_without_rows
from pgvector_sync.store import rows, runs, source
from pgvector_sync.store.canonical import is_usable
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape, expression
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.runs import RunPageEnqueued

PAGE_ROWS = 1_000


def walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> Walked:
    """Goes on from the run's watermark. Raises LeaseLost, and psycopg.Error where the database refuses."""
    request = _asked(run)
    rate, limit = request.rows_per_second, _page_rows(request)
    while not run.walked and not until.passed:
        try:
            page = _read(runtime, run, shape, limit)
        except psycopg.errors.QueryCanceled:
            if limit == 1:
                raise
            limit = fewer(limit)
            continue
        if page is None:
            return Walked(ended=False)
        run, enqueued = runtime.database.retry_on_lock_conflict(partial(_enqueue, run, shape, *page))
        reach(Failpoint.BACKFILL_COMMITTED)
        if rate is not None and enqueued:
            # the lease goes back meanwhile: no worker waits for a run that is slow on purpose
            return Walked(ended=False, again=timedelta(seconds=enqueued / rate))
    if not run.walked:
        return Walked(ended=False, again=timedelta(0))
    return Walked(ended=runtime.database.retry_on_lock_conflict(partial(runs.finish, run=run)))


Asked = list[tuple[Key, bool]]
"""Keys, and whether they are asked for."""


def _read(runtime: Runtime, run: ClaimedRun, shape: Shape, limit: int) -> tuple[Asked, bool] | None:
    """The next keys, and whether they are the last; None where the run must wait for the workers.

    Read-only and apart from the rest: a condition that somebody has typed can change nothing. Raises Refused where
    it tries to.
    """
    most = runtime.settings.bulk_depth_rows
    with runtime.database.transaction(read_only=True) as connection:
        if runs.bulk_depth(connection, shape.pipeline, limit=most) >= most:
            return None
        limit_statements(connection, page_limit(runtime))
        request = _asked(run)
        if request.keys:
            keys = runs.key_page(connection, run.id, run.watermark, limit=limit)
            asked = {key for key in keys if is_usable(key, shape.pipeline.source.key)}
            if conditions := _conditions(request, shape, stale_only=request.stale_only, filtered=False):
                text_limit = runtime.settings.text_limit_bytes
                asked = rows.matching(
                    connection, shape, list(asked), conditions, text_limit=text_limit, since=run.started_at
                )
            return [(key, key in asked) for key in keys], len(keys) < limit
        try:
            return _page(runtime, run, shape, connection, limit)
        except psycopg.errors.ReadOnlySqlTransaction:
            raise Refused("the condition wants to change something") from None


def _page(
    runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection, limit: int
) -> tuple[Asked, bool]:
    """A row whose text or `where` fails or takes too long is found by smaller and smaller pages, and asked for: a
    worker says what is wrong. Raises DatabaseRefuses where they fail without any row.
    """
    request = _asked(run)
    stale_only = request.stale_only
    filtered = shape.pipeline.where_sql is not None
    conditions = _conditions(request, shape, stale_only=stale_only, filtered=filtered)
    for size in ever_fewer(limit):
        try:
            return _keys(runtime, run, shape, connection, size, conditions)
        except psycopg.errors.QueryCanceled:
            if size > 1 or not (stale_only or filtered):
                raise  # the next page is smaller
        except psycopg.Error as error:
            if not (stale_only or filtered) or not is_of_a_row(error):
                raise
            if (fault := fault_without_rows(runtime, shape)) is not None:
                raise fault from None
    conditions = _conditions(request, shape, stale_only=False, filtered=False)
    return _keys(runtime, run, shape, connection, 1, conditions)


def _keys(
    runtime: Runtime,
    run: ClaimedRun,
    shape: Shape,
    connection: Connection,
    limit: int,
    conditions: Sequence[sql.Composable],
) -> tuple[Asked, bool]:
    """One page of the source's keys, and whether it is the last."""
    with connection.transaction():
        found = rows.page(
            connection,
            shape,
            run.watermark,
            limit=limit,
            text_limit=runtime.settings.text_limit_bytes,
            conditions=conditions,
            since=run.started_at,
        )
    return found, len(found) < limit


def _asked(run: ClaimedRun) -> Reembed:
    """What decides which rows are enqueued: a backfill takes them as a re-embed without any option does."""
    return run.request if isinstance(run.request, Reembed) else Reembed()


def _page_rows(request: Reembed) -> int:
    """A second's worth where a rate is asked for."""
    rate = request.rows_per_second
    return PAGE_ROWS if rate is None else max(1, min(PAGE_ROWS, int(rate)))


def _conditions(request: Reembed, shape: Shape, *, stale_only: bool, filtered: bool) -> Sequence[sql.Composable]:
    """`filtered`: rows that the pipeline's `where` refuses are passed over, unless they have vectors to lose."""
    found: list[sql.Composable] = [source.is_concerned(shape)] if filtered else []
    if request.where is not None:
        found.append(expression(request.where))
    if stale_only:
        found.append(source.is_stale(shape))
    if request.force:
        found.append(source.is_older(shape))
    return found


def _enqueue(
    run: ClaimedRun, shape: Shape, page: Asked, walked: bool, connection: Connection
) -> tuple[ClaimedRun, int]:
    """Enqueues one page and moves the watermark, together or not at all.

    A row that comes after the page was read has its event in the outbox: its trigger was there before the run.
    """
    moved = replace(run, watermark=page[-1][0] if page else run.watermark, walked=walked)
    asked = [key for key, wanted in page if wanted]
    enqueued = enqueue(connection, shape.pipeline, run, asked, force=_asked(run).force)
    if not runs.advance(connection, moved, seen=len(page), enqueued=enqueued):
        raise LeaseLost(f"run {run.id} is no longer ours")  # cancelled or taken over: this page must not commit
    reach(Failpoint.BACKFILL_ENQUEUED)
    emit(RunPageEnqueued(pipeline=run.pipeline, run=run.id, rows=len(page), enqueued=enqueued))
    return moved, enqueued
