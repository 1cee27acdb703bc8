"""Bulk: enqueue rows of a source in the bulk lane page by page, a bounded distance ahead of the workers.

A backfill takes every row that `where` accepts or that has vectors to remove, a re-embed the requested rows.
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
from pgvector_sync.runs.walk_result import WalkResult
from pgvector_sync.runtime import Runtime, page_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.runtime.expression import fault_without_rows
from pgvector_sync.store import rows, runs, source
from pgvector_sync.store.canonical import is_usable
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape, expression
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.runs import RunPageEnqueued

PAGE_ROWS = 1_000


def walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> WalkResult:
    """Continue from the run's watermark. Raises LeaseLost, Refused, DatabaseRefuses and psycopg.Error."""
    request = _request(run)
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
            return WalkResult(ended=False)
        run, enqueued = runtime.database.retry_on_lock_conflict(partial(_enqueue, run, shape, *page))
        reach(Failpoint.BACKFILL_COMMITTED)
        if rate is not None and enqueued:
            # The lease is released meanwhile, so that no worker waits for a run that is slow on purpose.
            return WalkResult(ended=False, resume_in=timedelta(seconds=enqueued / rate))
    if not run.walked:
        return WalkResult(ended=False, resume_in=timedelta(0))
    return WalkResult(ended=runtime.database.retry_on_lock_conflict(partial(runs.finish, run=run)))


KeyPage = list[tuple[Key, bool]]
"""Keys, each with whether it is to be enqueued."""


def _read(runtime: Runtime, run: ClaimedRun, shape: Shape, limit: int) -> tuple[KeyPage, bool] | None:
    """Return the next keys, and whether they are the last. None if the run has to wait for the workers.

    The transaction is read-only and separate from the others, so that a user's condition can't change anything.
    Raises Refused if it tries to.
    """
    depth = runtime.settings.bulk_depth_rows
    with runtime.database.transaction(read_only=True) as connection:
        if runs.bulk_depth(connection, shape.pipeline, limit=depth) >= depth:
            return None
        limit_statements(connection, page_limit(runtime))
        request = _request(run)
        if request.keys:
            keys = runs.key_page(connection, run.id, run.watermark, limit=limit)
            selected = {key for key in keys if is_usable(key, shape.pipeline.source.key)}
            if conditions := _conditions(request, shape, stale_only=request.stale_only, filtered=False):
                text_limit = runtime.settings.text_limit_bytes
                selected = rows.matching(
                    connection, shape, list(selected), conditions, text_limit=text_limit, since=run.started_at
                )
            return [(key, key in selected) for key in keys], len(keys) < limit
        try:
            return _page(runtime, run, shape, connection, limit)
        except psycopg.errors.ReadOnlySqlTransaction:
            raise Refused("the condition must not change data") from None


def _page(
    runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection, limit: int
) -> tuple[KeyPage, bool]:
    """Return one page of the source's keys, and whether it is the last.

    A row on which `text` or `where` fails or takes too long is found by smaller and smaller pages, and enqueued: a
    worker then records the reason. Raises DatabaseRefuses if an expression fails without any row.
    """
    request = _request(run)
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
) -> tuple[KeyPage, bool]:
    """Return up to `limit` keys of the source, and whether they are the last."""
    with connection.transaction():
        keys = rows.page(
            connection,
            shape,
            run.watermark,
            limit=limit,
            text_limit=runtime.settings.text_limit_bytes,
            conditions=conditions,
            since=run.started_at,
        )
    return keys, len(keys) < limit


def _request(run: ClaimedRun) -> Reembed:
    """Return the request that selects the rows. A backfill selects the same rows as a re-embed without options."""
    return run.request if isinstance(run.request, Reembed) else Reembed()


def _page_rows(request: Reembed) -> int:
    """The maximum number of rows per page: one second's worth if the request has a rate."""
    rate = request.rows_per_second
    return PAGE_ROWS if rate is None else max(1, min(PAGE_ROWS, int(rate)))


def _conditions(request: Reembed, shape: Shape, *, stale_only: bool, filtered: bool) -> Sequence[sql.Composable]:
    """`filtered` skips rows that the pipeline's `where` excludes, unless they have vectors to remove."""
    conditions: list[sql.Composable] = [source.is_concerned(shape)] if filtered else []
    if request.where is not None:
        conditions.append(expression(request.where))
    if stale_only:
        conditions.append(source.is_stale(shape))
    if request.force:
        conditions.append(source.is_older(shape))
    return conditions


def _enqueue(
    run: ClaimedRun, shape: Shape, page: KeyPage, walked: bool, connection: Connection
) -> tuple[ClaimedRun, int]:
    """Enqueue one page and move the watermark in the same transaction.

    Rows that are inserted after the page was read have an event in the outbox, since the triggers were installed
    before the run.
    """
    moved = replace(run, watermark=page[-1][0] if page else run.watermark, walked=walked)
    selected = [key for key, is_selected in page if is_selected]
    enqueued = enqueue(connection, shape.pipeline, run, selected, force=_request(run).force)
    if not runs.advance(connection, moved, seen=len(page), enqueued=enqueued):
        raise LeaseLost(f"run {run.id} is no longer ours")  # cancelled or taken over: this page must not commit
    reach(Failpoint.BACKFILL_ENQUEUED)
    emit(RunPageEnqueued(pipeline=run.pipeline, run=run.id, rows=len(page), enqueued=enqueued))
    return moved, enqueued
