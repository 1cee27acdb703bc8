"""Reconcile: walk source and target side by side, and count and enqueue rows that have drifted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg

from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.errors import LeaseLost
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import ever_fewer, fewer
from pgvector_sync.model import Key, Schedule, in_window
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.enqueue import enqueue
from pgvector_sync.runs.walk_result import WalkResult
from pgvector_sync.runtime import Runtime, page_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.runtime.expression import fault_without_rows
from pgvector_sync.store import drift, partitions, runs
from pgvector_sync.store.drift import FORCED, Drift, Page
from pgvector_sync.store.runs import ClaimedRun
from pgvector_sync.store.shape import Shape
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.runs import Reconciled, ReconcilePageCompared

FIRST_PAGE_ROWS = 1_000
PAGE_TIME = timedelta(seconds=1)
"""Target duration of a page. Texts may be large, and a worker gives up on a server that doesn't answer."""
WINDOW_CHECK_EVERY = timedelta(minutes=1)
"""How long a run outside of its time of day waits before it checks the time again."""
UNPLACED = "unplaced"
"""Orphans whose partition is gone. They are removed without confirmation."""
SAMPLES = 10
"""Number of keys per kind that a report shows."""
STUCK_LIMIT_ROWS = 10_000


def walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> WalkResult:
    """Continue from the run's watermark. Raises LeaseLost, DatabaseRefuses and psycopg.Error."""
    request = _request(run)
    if not run.walked and request.window is not None and not in_window(request.window, run.claimed_at):
        return WalkResult(ended=False, resume_in=WINDOW_CHECK_EVERY)
    share = request.database_share
    largest = request.page_rows or shape.pipeline.options.reconcile.page_rows
    limit = min(FIRST_PAGE_ROWS, largest)
    while not run.walked:
        if until.passed:
            return WalkResult(ended=False, resume_in=timedelta(0))
        if _workers_behind(runtime, run, shape):
            return WalkResult(ended=False)
        started = time.monotonic()
        try:
            run = runtime.database.retry_on_lock_conflict(partial(_step, runtime, run, shape, limit))
        except psycopg.errors.QueryCanceled:
            if limit == 1:
                raise
            limit = fewer(limit)
            continue
        reach(Failpoint.RECONCILE_COMMITTED)
        took = timedelta(seconds=time.monotonic() - started)
        limit = min(largest, _next_size(limit, took))
        pause = took * (1 / share - 1)
        if pause >= until.left:
            return WalkResult(ended=False, resume_in=pause)
        # `database_share` limits the use of the database, so it doesn't matter which process waits
        time.sleep(pause.total_seconds())
    return _finish(runtime, run, shape, until=until)


def _request(run: ClaimedRun) -> Reconcile:
    assert isinstance(run.request, Reconcile)  # noqa: S101  `run._walk` chooses by this type
    return run.request


def _finish(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> WalkResult:
    """Store the counts and enqueue the orphans, after the last page."""
    if Drift.STUCK not in run.counts:
        run = runtime.database.retry_on_lock_conflict(partial(_close, runtime, run, shape))
    if reason := _suspicion(run, shape.pipeline.options.reconcile):
        return WalkResult(
            ended=runtime.database.retry_on_lock_conflict(partial(runs.fail, run=run, reason=reason))
        )
    while runtime.database.retry_on_lock_conflict(partial(_enqueue_orphans, run, shape)):
        if until.passed or _workers_behind(runtime, run, shape):
            return WalkResult(ended=False)
    return WalkResult(ended=runtime.database.retry_on_lock_conflict(partial(runs.finish, run=run)))


def _next_size(rows: int, took: timedelta) -> int:
    if took > PAGE_TIME:
        return max(1, rows // 2)
    return rows * 2 if took < PAGE_TIME / 2 else rows


def _workers_behind(runtime: Runtime, run: ClaimedRun, shape: Shape) -> bool:
    """Whether the bulk lane is full, so that the run has to wait for the workers."""
    if _request(run).dry_run:
        return False
    limit = runtime.settings.bulk_depth_rows
    with runtime.database.transaction(read_only=True) as connection:
        return runs.bulk_depth(connection, shape.pipeline, limit=limit) >= limit


def _step(runtime: Runtime, run: ClaimedRun, shape: Shape, limit: int, connection: Connection) -> ClaimedRun:
    """Compare one page, enqueue and count its drift, and move the watermark, in one transaction."""
    limit_statements(connection, page_limit(runtime))
    page = _page(runtime, run, shape, connection, limit=limit)
    orphans = [key for key, kind in page.drifted.items() if kind is Drift.ORPHANED]
    unplaced = partitions.unplaced(connection, shape, orphans)
    enqueued = 0
    if not _request(run).dry_run:
        enqueued += _enqueue(connection, run, shape, page, forced=False)
        enqueued += _enqueue(connection, run, shape, page, forced=True)
        enqueued += enqueue(connection, shape.pipeline, run, sorted(unplaced))
        if suspects := [key for key in orphans if key not in unplaced]:
            runs.add_keys(connection, run.id, suspects)
    moved = replace(
        run,
        watermark=page.upto or run.watermark,
        walked=page.upto is None,
        counts=_counted(run.counts, page, len(unplaced)),
        samples=_sampled(run.samples, page.drifted.items()),
    )
    _advance(moved, connection, seen=page.rows, enqueued=enqueued)
    reach(Failpoint.RECONCILE_COMPARED)
    emit(ReconcilePageCompared(pipeline=run.pipeline, run=run.id, rows=page.rows, drifted=len(page.drifted)))
    return moved


def _page(runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection, *, limit: int) -> Page:
    """Compare up to `limit` rows.

    A row on which `text` or `where` fails or takes too long is found by smaller and smaller pages. It counts as
    stale, and so becomes a dead letter, unless it is in outbox or work already. Raises DatabaseRefuses if an
    expression fails without any row.
    """
    for size in ever_fewer(limit):
        try:
            with connection.transaction():
                return drift.page(
                    connection,
                    shape,
                    run.watermark,
                    limit=size,
                    deep=_request(run).deep,
                    text_limit=runtime.settings.text_limit_bytes,
                )
        except psycopg.errors.QueryCanceled as error:
            if size > 1:
                raise  # the next page is smaller
            failed: psycopg.Error = error
        except psycopg.Error as error:
            if not is_of_a_row(error):
                raise
            if (fault := fault_without_rows(runtime, shape)) is not None:
                raise fault from None
            failed = error
    key = drift.first(connection, shape, run.watermark)
    if key is None:
        raise failed
    waits = drift.waits(connection, shape, key)
    return Page(1, 0, {} if waits else {key: Drift.STALE}, key)


def _enqueue(connection: Connection, run: ClaimedRun, shape: Shape, page: Page, *, forced: bool) -> int:
    keys = [key for key, kind in page.drifted.items() if kind is not Drift.ORPHANED and (kind in FORCED) is forced]
    return enqueue(connection, shape.pipeline, run, keys, force=forced)


def _counted(counts: dict[str, int], page: Page, unplaced: int) -> dict[str, int]:
    total = Counter(counts) + Counter({"rows": page.rows, "vectors": page.vectors, UNPLACED: unplaced})
    total += Counter(kind.value for kind in page.drifted.values())
    names = ("rows", "vectors", *(kind for kind in Drift if kind is not Drift.STUCK))
    return {name: total[name] for name in (*names, *([UNPLACED] if total[UNPLACED] else []))}


def _sampled(samples: dict[str, list[object]], drifted: Iterable[tuple[Key, Drift]]) -> dict[str, list[object]]:
    extended = {kind: list(keys) for kind, keys in samples.items()}
    for key, kind in drifted:
        if len(extended.setdefault(kind.value, [])) < SAMPLES:
            extended[kind.value].append(list(key))
    return extended


def _close(runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection) -> ClaimedRun:
    """Release work that is stuck, and store the counts for the trend, after the last page."""
    settings = runtime.settings
    # the longest backoff with its jitter of 50 %: no healthy row waits longer
    lease, longest = settings.lease, settings.backoff_longest * 1.5 + settings.lease
    stuck = drift.stuck(connection, shape, lease=lease, longest=longest, limit=STUCK_LIMIT_ROWS)
    if stuck and not _request(run).dry_run:
        drift.free(connection, shape, stuck, lease=lease, longest=longest)
    closed = replace(
        run,
        counts={**run.counts, Drift.STUCK: len(stuck)},
        samples=_sampled(run.samples, ((key, Drift.STUCK) for key in stuck)),
    )
    drift.note(connection, shape, run.id, deep=_request(run).deep, counts=closed.counts)
    if not _request(run).dry_run and _suspicion(closed, shape.pipeline.options.reconcile) is None:
        partitions.remember(connection, shape)
    _advance(closed, connection, seen=0, enqueued=0)
    emit(Reconciled(pipeline=run.pipeline, run=run.id, counts=closed.counts))
    return closed


def _suspicion(run: ClaimedRun, schedule: Schedule) -> str | None:
    """Return why the orphans must not be removed without confirmation, or None."""
    if _request(run).dry_run or _request(run).accept_orphans:
        return None
    unplaced = run.counts.get(UNPLACED, 0)
    orphaned, vectors = run.counts[Drift.ORPHANED] - unplaced, run.counts["vectors"] - unplaced
    share = schedule.orphan_share
    if orphaned <= share * vectors:
        return None
    return (
        f"{orphaned:,} of {vectors:,} vectors look orphaned, more than orphan_share ({share:.0%}): they were not "
        "removed, since a lost grant or a restored table looks the same. If their rows were really deleted, run "
        f"`pgvector-sync reconcile {run.pipeline} --accept-orphans`; if this is normal, raise orphan_share"
    )


def _enqueue_orphans(run: ClaimedRun, shape: Shape, connection: Connection) -> int:
    keys = drift.take_orphans(connection, run.id, limit=shape.pipeline.options.reconcile.page_rows)
    if keys:
        enqueued = enqueue(connection, shape.pipeline, run, keys)
        _advance(run, connection, seen=0, enqueued=enqueued)
    return len(keys)


def _advance(run: ClaimedRun, connection: Connection, *, seen: int, enqueued: int) -> None:
    if not runs.advance(connection, run, seen=seen, enqueued=enqueued):
        raise LeaseLost(f"run {run.id} is no longer ours")  # cancelled or taken over
