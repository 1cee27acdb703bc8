"""Write and ack: one short transaction a slice, in the order that the guarantees rest on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key
from pgvector_sync.store import pipelines, rows
from pgvector_sync.store.database import IN_THE_WAY, OUTAGE, limit_statements
from pgvector_sync.store.rows import Look, Vector32
from pgvector_sync.sync.batch.claim import Batch
from pgvector_sync.sync.batch.read import Failure
from pgvector_sync.sync.runtime import Runtime, is_of_a_row

SLICE_TIME = timedelta(milliseconds=20)
"""What a slice should take, so that it stays under ~50 ms when the machine is busy or the index is cold."""
FIRST_SLICE_ROWS = 4
LARGEST_SLICE_ROWS = 512
AFTER_AN_OUTAGE = timedelta(milliseconds=500)
CONTENTION = timedelta(seconds=5)
"""How long rows that the application holds locked are tried again, with their vectors kept."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one row brings to the write: a vector for a fingerprint, or None: nothing to store."""

    key: Key
    fingerprint: bytes | None
    vector: Vector32 | None
    force: bool


@dataclass
class Written:
    stored: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)
    unchanged: set[Key] = field(default_factory=set)
    superseded: set[Key] = field(default_factory=set)
    held_up: set[Key] = field(default_factory=set)
    """Locked by the application all the while; released, to be tried again."""
    failed: dict[Key, Failure] = field(default_factory=dict)
    """Rows that make the write fail, each found by halving."""

    @property
    def acknowledged(self) -> int:
        return len(self.stored) + len(self.removed) + len(self.unchanged)


@dataclass
class SliceSize:
    """Adapts to the index of the target: rows a slice whose writing takes about SLICE_TIME.

    `took` is the writing alone, without the round trip: what every slice costs whatever its size must not make
    slices smaller, or a distant database would be written to row by row. One odd measurement at most halves.
    """

    rows: int = FIRST_SLICE_ROWS

    def learn(self, count: int, took: timedelta) -> None:
        fitting = count * (SLICE_TIME / max(took, timedelta(microseconds=100)))
        self.rows = max(1, self.rows // 2, min(LARGEST_SLICE_ROWS, int(fitting), self.rows * 2))

    def cancelled(self, count: int) -> None:
        """`count` rows took too long, nobody knows how long: an index was built since, say, and what took 0.04 ms
        a row takes 6 now.
        """
        self.rows = max(1, min(self.rows, count) // 8)


_SIZES: dict[str, SliceSize] = {}
"""Per target, kept by the process: only a measurement, so losing or sharing it does no harm."""


def write(runtime: Runtime, batch: Batch, prepared: Sequence[Prepared]) -> Written:
    """Stores what still matches its row and acknowledges it; releases what was superseded.

    Raises psycopg.OperationalError where the database stays away longer than the batch may wait.
    """
    return _Writing(runtime, batch, deque(prepared)).run()


class _Writing:
    """The slices of one batch: how large the next is, and what becomes of one that fails."""

    def __init__(self, runtime: Runtime, batch: Batch, waiting: deque[Prepared]) -> None:
        self.runtime, self.batch, self.waiting = runtime, batch, waiting
        self.done = Written()
        self.size = _SIZES.setdefault(batch.pipeline.target_label, SliceSize())
        self.limit = self.size.rows
        self.give_up = min(batch.until, time.monotonic() + CONTENTION.total_seconds())

    def run(self) -> Written:
        while self.waiting and time.monotonic() < self.batch.until:
            part = [self.waiting.popleft() for _ in range(min(self.limit, len(self.waiting)))]
            try:
                took = _slice(self.runtime, self.batch, part, self.done)
            except IN_THE_WAY:
                self._make_way(part)
            except psycopg.errors.QueryCanceled:
                self._cancelled(part)
            except psycopg.Error as error:
                if is_of_a_row(error):  # first: too long a key is an operational error to psycopg
                    self._find_culprit(part, error)
                elif isinstance(error, OUTAGE):
                    self._wait_out(part)
                else:
                    raise
            else:
                if took is not None:
                    self.size.learn(*took)
                self.limit = self.size.rows
        self.done.held_up |= {row.key for row in self.waiting}  # the deadline came first
        self._release_held_up()
        return self.done

    def _make_way(self, part: list[Prepared]) -> None:
        """In halves, so that only the rows that somebody else holds wait."""
        self.limit = max(1, len(part) // 2)
        if len(part) > 1:
            self.waiting.extendleft(reversed(part))
        elif time.monotonic() < self.give_up:
            self.waiting.extend(part)  # the others first
        else:
            self.done.held_up.add(part[0].key)

    def _cancelled(self, part: list[Prepared]) -> None:
        """In far smaller slices. A single row has no limit of ours: it may be the role's, or somebody's cancel."""
        if len(part) == 1:
            self._wait_out(part)
            return
        self.size.cancelled(len(part))
        self.limit = self.size.rows
        self.waiting.extendleft(reversed(part))

    def _find_culprit(self, part: list[Prepared], error: psycopg.Error) -> None:
        """In halves: one row's expression fails by now, or its key is too long for the target's index."""
        self.limit = max(1, len(part) // 2)
        if len(part) > 1:
            self.waiting.extendleft(reversed(part))
            return
        words = f"the write failed on this row ({error.sqlstate})"
        self.done.failed[part[0].key] = Failure("write_failed", words, part[0].fingerprint, final=False)

    def _wait_out(self, part: list[Prepared]) -> None:
        """The vectors are paid for and the lease is still ours: keep them until the database is back."""
        if time.monotonic() + AFTER_AN_OUTAGE.total_seconds() >= self.batch.until:
            raise  # noqa: PLE0704  # called while the error is being handled
        self.waiting.extendleft(reversed(part))
        time.sleep(AFTER_AN_OUTAGE.total_seconds())

    def _release_held_up(self) -> None:
        if self.done.held_up:
            keys, delay = list(self.done.held_up), self.runtime.settings.backoff_first
            self.runtime.database.patiently(lambda c: self.batch.holding.release(c, keys, delay=delay))


@dataclass(frozen=True, slots=True)
class Decision:
    """What the look under the lock allows, row by row."""

    stored: dict[Key, tuple[bytes, Vector32]]
    removed: list[Key]
    unchanged: list[Key]

    @property
    def acknowledged(self) -> list[Key]:
        return [*self.stored, *self.removed, *self.unchanged]


def decide(part: Sequence[Prepared], seen: Mapping[Key, Look]) -> Decision:
    """Pure: a vector is stored only for the fingerprint that the row has now; a row not seen is not ours."""
    stored: dict[Key, tuple[bytes, Vector32]] = {}
    removed: list[Key] = []
    unchanged: list[Key] = []
    for row in part:
        now = seen.get(row.key)
        if now is None:
            continue
        if now.fingerprint is None:
            removed.append(row.key)
        elif row.vector is not None and now.fingerprint == row.fingerprint:
            stored[row.key] = (now.fingerprint, row.vector)
        elif now.fingerprint == now.stored_fingerprint and not row.force:
            unchanged.append(row.key)
    return Decision(stored, removed, unchanged)


def _slice(
    runtime: Runtime, batch: Batch, part: Sequence[Prepared], done: Written
) -> tuple[int, timedelta] | None:
    """One transaction; how many rows it wrote and how long that took besides the round trip, None for no rows."""
    settings = runtime.settings
    took: tuple[int, timedelta] | None = None
    with runtime.database.transaction() as connection:
        seen: dict[Key, Look] = {}
        started = time.monotonic()
        held = pipelines.hold(connection, batch.pipeline)
        round_trip = time.monotonic() - started
        reach(Failpoint.WRITE_HELD)
        if held:
            locked = batch.holding.lock(connection, [batch.rows[row.key] for row in part])
            reach(Failpoint.WRITE_LOCKED)
            if locked:
                # Before any weaker lock on the target: if we read it and then waited to write, a migration that
                # locks it weakly and then strongly would die of us, at once.
                rows.require_open_to_writes(connection, batch.shape)
                # only now, with the work rows locked: whatever commits after this look is in the outbox
                seen = rows.look(connection, batch.shape, list(locked), text_limit=settings.text_limit_bytes)
        reach(Failpoint.WRITE_LOOKED)
        decision = decide(part, seen)
        if len(part) > 1:
            # Of several rows one is locked while we wait for the next, or for a slow index, and the application
            # may wait for it. Bounded as a whole, we are gone before its deadlock_timeout finds a circle, which
            # would end its transaction and not ours.
            limit_statements(connection, settings.lock_timeout)
        if decision.stored:
            started = time.monotonic()
            rows.write(connection, batch.shape, decision.stored)
            seconds = max(0.0, time.monotonic() - started - rows.WRITE_STATEMENTS * round_trip)
            took = len(decision.stored), timedelta(seconds=seconds)
        if decision.removed:
            rows.remove(connection, batch.shape, decision.removed)
        reach(Failpoint.WRITE_WRITTEN)
        acknowledged = decision.acknowledged
        if acknowledged and batch.holding.ack(connection, acknowledged) != len(acknowledged):
            raise AssertionError("a locked work row went away")  # pragma: no cover - we hold the lock
        superseded = {row.key for row in part} - set(acknowledged)
        if superseded:
            batch.holding.release_superseded(
                connection, list(superseded), first=settings.backoff_first, longest=settings.backoff_longest
            )
        reach(Failpoint.WRITE_ACKED)
    reach(Failpoint.WRITE_COMMITTED)
    done.stored |= set(decision.stored)
    done.removed |= set(decision.removed)
    done.unchanged |= set(decision.unchanged)
    done.superseded |= superseded
    return took
