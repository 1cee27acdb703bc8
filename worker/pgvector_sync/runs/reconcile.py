"""Reconcile: source and target walked side by side; what has drifted is counted and enqueued, not mended here."""

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
from pgvector_sync.runtime import Runtime, Walked, page_limit
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
"""What a page should take: texts may be large, and a worker gives up on a server that is silent."""
OUTSIDE = timedelta(minutes=1)
"""When a run looks again whether its time of the day has come."""
UNPLACED = "unplaced"
"""Counted among the orphaned: their partition is gone, so nobody need be asked."""
SAMPLES = 10
"""Keys of each kind that a report shows."""
STUCK_LIMIT_ROWS = 10_000


def walk(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> Walked:
    """Goes on from the run's watermark. Raises LeaseLost, and psycopg.Error where the database refuses."""
    request = _asked(run)
    if not run.walked and request.window is not None and not in_window(request.window, run.claimed_at):
        return Walked(ended=False, again=OUTSIDE)
    share = request.database_share
    most = request.page_rows or shape.pipeline.options.reconcile.page_rows
    limit = min(FIRST_PAGE_ROWS, most)
    while not run.walked:
        if until.passed:
            return Walked(ended=False, again=timedelta(0))
        if _behind(runtime, run, shape):
            return Walked(ended=False)
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
        limit = min(most, _next_size(limit, took))
        rest = took * (1 / share - 1)
        if rest >= until.left:
            return Walked(ended=False, again=rest)
        # it is the database's time that is shared, not that of whoever carries the run
        time.sleep(rest.total_seconds())
    return _finish(runtime, run, shape, until=until)


def _asked(run: ClaimedRun) -> Reconcile:
    assert isinstance(run.request, Reconcile)  # noqa: S101  else it wouldn't be here
    return run.request


def _finish(runtime: Runtime, run: ClaimedRun, shape: Shape, *, until: Deadline) -> Walked:
    """Both tables are walked: figures, orphans, end."""
    if Drift.STUCK not in run.counts:
        run = runtime.database.retry_on_lock_conflict(partial(_close, runtime, run, shape))
    if reason := _suspicion(run, shape.pipeline.options.reconcile):
        return Walked(ended=runtime.database.retry_on_lock_conflict(partial(runs.fail, run=run, reason=reason)))
    while runtime.database.retry_on_lock_conflict(partial(_enqueue_orphans, run, shape)):
        if until.passed or _behind(runtime, run, shape):
            return Walked(ended=False)
    return Walked(ended=runtime.database.retry_on_lock_conflict(partial(runs.finish, run=run)))


def _next_size(rows: int, took: timedelta) -> int:
    if took > PAGE_TIME:
        return max(1, rows // 2)
    return rows * 2 if took < PAGE_TIME / 2 else rows


def _behind(runtime: Runtime, run: ClaimedRun, shape: Shape) -> bool:
    """The workers have enough to do."""
    if _asked(run).dry_run:
        return False
    limit = runtime.settings.bulk_depth_rows
    with runtime.database.transaction(read_only=True) as connection:
        return runs.bulk_depth(connection, shape.pipeline, limit=limit) >= limit


def _step(runtime: Runtime, run: ClaimedRun, shape: Shape, limit: int, connection: Connection) -> ClaimedRun:
    """One page: found, enqueued, counted and the watermark moved, in one transaction."""
    limit_statements(connection, page_limit(runtime))
    page = _page(runtime, run, shape, connection, limit=limit)
    orphans = [key for key, kind in page.drifted.items() if kind is Drift.ORPHANED]
    unplaced = partitions.unplaced(connection, shape, orphans)
    enqueued = 0
    if not _asked(run).dry_run:
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
    """A row on which text or where fails or takes too long is found by smaller and smaller pages.

    Unless it is in outbox or work by now, as a dead letter perhaps, it counts as stale: enqueued, it becomes one.
    Raises DatabaseRefuses where an expression fails without any row.
    """
    for size in ever_fewer(limit):
        try:
            with connection.transaction():
                return drift.page(
                    connection,
                    shape,
                    run.watermark,
                    limit=size,
                    deep=_asked(run).deep,
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
    known = drift.waits(connection, shape, key)
    return Page(1, 0, {} if known else {key: Drift.STALE}, key)


def _enqueue(connection: Connection, run: ClaimedRun, shape: Shape, page: Page, *, forced: bool) -> int:
    keys = [key for key, kind in page.drifted.items() if kind is not Drift.ORPHANED and (kind in FORCED) is forced]
    return enqueue(connection, shape.pipeline, run, keys, force=forced)


def _counted(counts: dict[str, int], page: Page, unplaced: int) -> dict[str, int]:
    total = Counter(counts) + Counter({"rows": page.rows, "vectors": page.vectors, UNPLACED: unplaced})
    total += Counter(kind.value for kind in page.drifted.values())
    names = ("rows", "vectors", *(kind for kind in Drift if kind is not Drift.STUCK))
    return {name: total[name] for name in (*names, *([UNPLACED] if total[UNPLACED] else []))}


def _sampled(samples: dict[str, list[object]], drifted: Iterable[tuple[Key, Drift]]) -> dict[str, list[object]]:
    found = {kind: list(keys) for kind, keys in samples.items()}
    for key, kind in drifted:
        if len(found.setdefault(kind.value, [])) < SAMPLES:
            found[kind.value].append(list(key))
    return found


def _close(runtime: Runtime, run: ClaimedRun, shape: Shape, connection: Connection) -> ClaimedRun:
    """After the last page: work that is stuck, and the figures for the trend."""
    settings = runtime.settings
    # no back-off, with its jitter of half, puts a row further away
    lease, longest = settings.lease, settings.backoff_longest * 1.5 + settings.lease
    stuck = drift.stuck(connection, shape, lease=lease, longest=longest, limit=STUCK_LIMIT_ROWS)
    if stuck and not _asked(run).dry_run:
        drift.free(connection, shape, stuck, lease=lease, longest=longest)
    closed = replace(
        run,
        counts={**run.counts, Drift.STUCK: len(stuck)},
        samples=_sampled(run.samples, ((key, Drift.STUCK) for key in stuck)),
    )
    drift.note(connection, shape, run.id, deep=_asked(run).deep, counts=closed.counts)
    if not _asked(run).dry_run and _suspicion(closed, shape.pipeline.options.reconcile) is None:
        partitions.remember(connection, shape)
    _advance(closed, connection, seen=0, enqueued=0)
    emit(Reconciled(pipeline=run.pipeline, run=run.id, counts=closed.counts))
    return closed


def _suspicion(run: ClaimedRun, schedule: Schedule) -> str | None:
    """Why the orphans must not be removed without a person's word."""
    if _asked(run).dry_run or _asked(run).accept_orphans:
        return None
    unplaced = run.counts.get(UNPLACED, 0)
    orphaned, vectors = run.counts[Drift.ORPHANED] - unplaced, run.counts["vectors"] - unplaced
    share = schedule.orphan_share
    if orphaned <= share * vectors:
        return None
    return (
        f"{orphaned:,} of {vectors:,} vectors look orphaned, more than {share:.0%}: rather a lost grant or a "
        "restored table than so many deletes, so they stay; if it is meant: "
        f"pgvector-sync reconcile {run.pipeline} --accept-orphans; if it is meant every time, raise orphan_share"
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
