"""Bulk: rows of a source into the bulk lane, page by page, a bounded distance ahead of the workers.

A fill takes every row, a re-embed those that it was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg
from psycopg import sql

from pgvector_sync.errors import LeaseLost, Refused
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key
from pgvector_sync.store import rows, runs
from pgvector_sync.store.database import Connection
from pgvector_sync.store.runs import ClaimedRun, Kind
from pgvector_sync.store.shape import Shape, expression
from pgvector_sync.sync.enqueue import enqueue
from pgvector_sync.sync.runtime import Runtime, Walked
from pgvector_sync.telemetry import Event, log

PAGE_ROWS = 1_000


def walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: float) -> Walked:
    """Goes on from the run's watermark. Raises LeaseLost, and psycopg.Error where the database refuses."""
    rate = run.options.get("rows_per_second")
    while not run.walked and time.monotonic() < until:
        page = _read(runtime, run, shape)
        if page is None:
            return Walked(ended=False)
        run, enqueued = runtime.database.patiently(partial(_enqueue, runtime, run, shape, page))
        reach(Failpoint.FILL_COMMITTED)
        if rate is not None and enqueued:
            # the lease goes back meanwhile: no worker waits for a run that is slow on purpose
            return Walked(ended=False, again=timedelta(seconds=enqueued / rate))
    return Walked(ended=run.walked and runtime.database.patiently(partial(runs.finish, run=run)))


def _read(runtime: Runtime, run: ClaimedRun, shape: Shape) -> list[tuple[Key, bool]] | None:
    """The next keys, and which of them are asked for; None where the run must wait for the workers.

    Read-only and apart from the rest: a condition that somebody has typed can change nothing. Raises Refused where
    it tries to.
    """
    limit = runtime.settings.bulk_depth_rows
    with runtime.database.transaction(read_only=True) as connection:
        if runs.bulk_depth(connection, shape.pipeline, limit=limit) >= limit:
            return None
        if run.options.get("keys"):
            keys = runs.key_page(connection, run.id, run.watermark, limit=_page_rows(run))
            return [(key, True) for key in keys]
        try:
            return rows.page(
                connection,
                shape,
                run.watermark,
                limit=_page_rows(run),
                text_limit=runtime.settings.text_limit_bytes,
                conditions=_conditions(run, shape),
                since=run.started_at,
            )
        except psycopg.errors.ReadOnlySqlTransaction:
            raise Refused("the condition wants to change something") from None


def _page_rows(run: ClaimedRun) -> int:
    """A second's worth where a rate is asked for."""
    rate = run.options.get("rows_per_second")
    return PAGE_ROWS if rate is None else max(1, min(PAGE_ROWS, int(rate)))


def _conditions(run: ClaimedRun, shape: Shape) -> Sequence[sql.Composable]:
    found: list[sql.Composable] = []
    if run.options.get("where"):
        found.append(expression(run.options["where"]))
    if run.options.get("stale_only"):
        found.append(shape.is_stale)
    if run.options.get("force"):
        found.append(shape.is_older)
    return found


def _enqueue(
    runtime: Runtime, run: ClaimedRun, shape: Shape, page: Sequence[tuple[Key, bool]], connection: Connection
) -> tuple[ClaimedRun, int]:
    """Enqueues one page and moves the watermark, together or not at all.

    A row that comes after the page was read has its event in the outbox: its trigger was there before the run.
    """
    walked = len(page) < _page_rows(run)
    moved = replace(run, watermark=page[-1][0] if page else run.watermark, walked=walked)
    asked = [key for key, wanted in page if wanted]
    force = run.kind is Kind.REEMBED and bool(run.options.get("force"))
    enqueued = enqueue(connection, shape.pipeline, run, asked, force=force)
    lease_for = runtime.settings.lease
    if not runs.advance(connection, moved, seen=len(page), enqueued=enqueued, lease_for=lease_for):
        raise LeaseLost(f"run {run.id} is no longer ours")  # cancelled or taken over: this page must not commit
    reach(Failpoint.FILL_ENQUEUED)
    log.debug(Event.FILL_PAGE, pipeline=run.pipeline, run=run.id, rows=len(page), enqueued=enqueued)
    return moved, enqueued
