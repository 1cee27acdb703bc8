"""Drain: move events from the outbox into work, one drain at a time, and sweep targets after a TRUNCATE."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.database import KEY_REFUSED, Database
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import fewer
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.store import locks, outbox, pipelines, rows
from pgvector_sync.store.outbox import Drained, Truncation
from pgvector_sync.store.shape import Shape
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.capture import EventParked, EventsParked, OrphansSwept, OutboxDrained

FULL_SCAN_EVERY = timedelta(seconds=1)
SWEEP_PAGE_ROWS = 500


@dataclass
class Sweep:
    """The TRUNCATE events that this sweep began after, and per pipeline the last target key that was checked."""

    events: list[Truncation]
    reached: dict[int, Key] = field(default_factory=dict)


@dataclass
class Drain:
    """Remembers where to start and how far the sweeps are. Losing this state costs time only."""

    database: Database
    limit: int
    burst: int = 500
    """Number of events of one transaction from which they go to the bulk lane (`PGVECTOR_SYNC_BURST_ROWS`)."""
    _hint: int = 0
    """Event id after which the next drain starts, except for the periodic full scans."""
    _scanned_at: float = 0.0
    """Time of the last full scan (`time.monotonic()`)."""
    _sweeps: dict[int, Sweep] = field(default_factory=dict)

    def __call__(self, *, until: Deadline, sweeps: bool = True) -> int:
        """Drain until the outbox is empty, another process drains, or `until` has passed.

        Returns the number of events moved or parked. Events whose work rows are locked are skipped once per call.
        Without `sweeps`, it doesn't look for TRUNCATE events.
        """
        total = 0
        limit = self.limit
        start, left = self.start(), None
        while not until.passed:
            requested = limit
            try:
                drained = self._slice(start, requested)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                break  # a work row is being inserted; the next poll comes soon
            except KEY_REFUSED:
                if limit > 1:
                    limit = fewer(limit, factor=2)
                else:
                    self._move_first(start)
                continue
            if drained is None:
                break
            limit = min(limit * 2, self.limit)
            total += drained.events + drained.parked
            left = drained.first_left if left is None else left
            start = drained.last_id
            self._hint = max(self._hint, start) if left is None else left - 1
            if drained.seen < requested:
                break
        if sweeps:
            self._sweep(until=until)
        return total

    def _slice(self, start: int, limit: int) -> Drained | None:
        """Move up to `limit` events in one transaction. None if there are none, or another process drains."""
        with self.database.transaction(by_key=True) as connection:
            if not outbox.waits(connection, after_id=start):
                self.note_scan(start)
                return None
            if not locks.try_lock_drain(connection):
                return None
            reach(Failpoint.DRAIN_LOCKED)
            drained = outbox.move(connection, after_id=start, limit=limit, burst=self.burst)
            reach(Failpoint.DRAIN_MOVED)
        reach(Failpoint.DRAIN_COMMITTED)
        self.note_scan(start)
        if drained.events:
            emit(OutboxDrained(events=drained.events, rows=drained.rows))
        if drained.parked:
            emit(EventsParked(events=drained.parked, error_class=", ".join(drained.faults)))
        return drained

    def note_scan(self, start: int) -> None:
        """Note that the outbox was searched from `start`."""
        if start == 0:
            self._scanned_at = time.monotonic()

    def start(self) -> int:
        """Return the id after which to look for events: 0 now and then, since ids become visible out of order."""
        stale = time.monotonic() - self._scanned_at > FULL_SCAN_EVERY.total_seconds()
        return 0 if stale else self._hint

    def _move_first(self, start: int) -> None:
        """Move the first event, or park it if its key is refused.

        The event is locked and tried again, since an earlier one may have become visible after the slice failed.
        """
        with self.database.transaction() as connection:
            event_id = outbox.lock_first(connection, after_id=start)
            if event_id is None or not locks.try_lock_drain(connection):
                return
            try:
                with connection.transaction():
                    outbox.move(connection, after_id=event_id - 1, limit=1, burst=self.burst)
            except KEY_REFUSED as error:
                error_class = f"key_refused_{error.sqlstate}"
                outbox.park(connection, event_id, error_class)
                emit(EventParked(event_id=event_id, error_class=error_class))

    def _sweep(self, *, until: Deadline) -> None:
        with self.database.transaction() as connection:
            pending = outbox.sweeps(connection)
            every = pipelines.all_pipelines(connection) if pending else []
        for source_id, events in pending.items():
            sweep = self._sweeps.setdefault(source_id, Sweep(events))
            done = all(
                self._walk(pipeline, sweep, until=until)
                for pipeline in every
                if pipeline.source.id == source_id and pipeline.state != "removing"
            )
            if done:
                reach(Failpoint.SWEEP_WALKED)
                with self.database.transaction() as connection:
                    outbox.finish_sweep(connection, source_id, sweep.events)
                del self._sweeps[source_id]

    def _walk(self, pipeline: Pipeline, sweep: Sweep, *, until: Deadline) -> bool:
        """Remove orphans from one target, continuing where the sweep stopped. True once it is finished."""
        shape = Shape(pipeline, self.database.vector_schema)
        removed = 0
        while not until.passed:
            try:
                with self.database.transaction() as connection:
                    rows.require_open_to_writes(connection, shape)  # before any weaker lock, as in a write
                    keys = rows.lock_page(connection, shape, sweep.reached.get(pipeline.id), limit=SWEEP_PAGE_ROWS)
                    if not keys:
                        return True
                    # A second statement, whose snapshot is taken after our locks: it sees a row inserted again.
                    removed += rows.remove_orphans(connection, shape, list(dict.fromkeys(keys)))
                    reach(Failpoint.SWEEP_REMOVED)
            except (psycopg.errors.LockNotAvailable, DatabaseRefuses):
                return False  # try again later; the schema watch shows why a source or target is closed to us
            except psycopg.errors.UndefinedTable:
                return True  # the target was dropped manually: nothing is left to sweep
            sweep.reached[pipeline.id] = keys[-1]
            emit(OrphansSwept(pipeline=pipeline.name, removed=removed))
        return False
