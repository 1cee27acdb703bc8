"""Write and ack: one short transaction per slice, in the order that the guarantees rest on.

What fails here has been paid for. So a failure of any kind is looked for in ever smaller slices, with the vectors
kept: one row's fault costs that row an attempt, and what fails for every row stops the pipeline.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.read import TOO_SLOW, Failure
from pgvector_sync.batch.refusal import SEVERAL, name_of, refused_as_a_whole, target_refuses
from pgvector_sync.database import IN_THE_WAY, OUTAGE, Connection, limit_statements
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime, is_of_a_row, probe_limit, row_limit
from pgvector_sync.runtime.expression import fault_without_rows
from pgvector_sync.store import pipelines, rows
from pgvector_sync.store.rows import Look, Vector32
from pgvector_sync.store.shape import Shape

SLICE_TIME = timedelta(milliseconds=20)
"""What a slice should take, so that it stays under ~50 ms when the machine is busy or the index is cold."""
FIRST_SLICE_ROWS = 4
LARGEST_SLICE_ROWS = 512
AFTER_AN_OUTAGE = timedelta(milliseconds=500)
UNSTEADY = Failure("unsteady", "text or where gave another result at every look, though no event came")
CONTENTION = timedelta(seconds=5)
"""How long rows that the application holds locked are tried again, with their vectors kept."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one row brings to the write: a vector for a fingerprint, or None: nothing to store."""

    key: Key
    fingerprint: bytes | None
    vector: Vector32 | None
    force: bool
    bought: bool = False
    """Paid for by this batch: that it isn't stored must not lead to buying it again without a bound."""


@dataclass
class Written:
    stored: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)
    absent: set[Key] = field(default_factory=set)
    """Rows that should have no vector, and had none."""
    unchanged: set[Key] = field(default_factory=set)
    superseded: set[Key] = field(default_factory=set)
    held_up: set[Key] = field(default_factory=set)
    """Locked by the application all the while, and not paid for: released, to be tried again."""
    failed: dict[Key, Failure] = field(default_factory=dict)
    """Rows that make the write fail, each found by halving; paid ones that couldn't be written; unsteady ones."""
    error: BaseException | None = None
    """Behind the latest of `failed`."""

    @property
    def acknowledged(self) -> int:
        return len(self.stored) + len(self.removed) + len(self.absent) + len(self.unchanged)


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

    Raises DatabaseRefuses where the target refuses every row, and psycopg.OperationalError where the database
    stays away longer than the batch may wait.
    """
    return Writing(runtime, batch, deque(prepared)).run()


class Writing:
    """The slices of one batch: how large the next is, and what becomes of one that fails.

    A rehearsal does the same in transactions that are rolled back; `stored` then are rows that could be written.
    """

    def __init__(
        self, runtime: Runtime, batch: Batch, waiting: deque[Prepared], *, rehearsal: bool = False
    ) -> None:
        self.runtime, self.batch, self.waiting, self.rehearsal = runtime, batch, waiting, rehearsal
        self.types = runtime.database.vectors
        self.done = Written()
        self.size = _SIZES.setdefault(batch.pipeline.target_label, SliceSize())
        self.limit = self.size.rows
        self.slow: set[Key] = set()
        self.give_up = min(batch.until, time.monotonic() + CONTENTION.total_seconds())

    def run(self) -> Written:
        while self.waiting and time.monotonic() < self.batch.until:
            self._take_one()
        self._hold_up(self.waiting, "the batch had no time left to write this row")
        if self.done.error is not None and not self.done.stored:
            self._require_blame(self.done.error)
        if not self.rehearsal:
            self._release_held_up()
        return self.done

    def _take_one(self) -> None:
        part = [self.waiting.popleft() for _ in range(min(self.limit, len(self.waiting)))]
        try:
            took = _slice(self.runtime, self.batch, part, self.done, rehearsal=self.rehearsal)
        except IN_THE_WAY:
            self._make_way(part)
        except DatabaseRefuses:
            raise  # neither source nor target may be touched
        except _LookedTooLongError:
            self._looked_too_long(part)
        except psycopg.errors.QueryCanceled:
            self._cancelled(part)
        except Exception as error:  # noqa: BLE001 - a bug, a time limit: whatever it is, it was paid for
            self._failed(part, error)
        else:
            if took is not None:
                self.size.learn(*took)
            self.limit = self.size.rows

    def _failed(self, part: list[Prepared], error: Exception) -> None:
        # a row's fault first: too long a key is an operational error to psycopg
        of_a_row = not isinstance(error, psycopg.Error) or is_of_a_row(error)
        if not of_a_row and isinstance(error, OUTAGE):
            self._wait_out(part)
        elif not of_a_row and self._has_moved():
            self.waiting.extendleft(reversed(part))
        else:
            self._find_culprit(part, error)

    def _make_way(self, part: list[Prepared]) -> None:
        """In halves, so that only the rows that somebody else holds wait."""
        self.limit = max(1, len(part) // 2)
        if len(part) > 1:
            self.waiting.extendleft(reversed(part))
        elif time.monotonic() < self.give_up:
            self.waiting.extend(part)  # the others first
        else:
            self._hold_up(part, "the application held this row's vectors locked")

    def _hold_up(self, part: Iterable[Prepared], words: str, error_class: str = "write_failed") -> None:
        """What was paid for uses up its attempt; its next write is rehearsed before it is bought again."""
        for row in list(part):
            if row.bought:
                self.done.failed[row.key] = Failure(error_class, words, row.fingerprint, final=False)
            else:
                self.done.held_up.add(row.key)

    def _looked_too_long(self, part: list[Prepared]) -> None:
        """In halves; a row whose text takes too long by now gets one more look, after the others."""
        self.limit = max(1, len(part) // 2)
        if len(part) > 1:
            self.waiting.extendleft(reversed(part))
        elif part[0].key not in self.slow:
            self.slow.add(part[0].key)
            self.waiting.extend(part)
        else:
            self._hold_up(part, "text or where took too long before this row could be written", TOO_SLOW)

    def _cancelled(self, part: list[Prepared]) -> None:
        """In far smaller slices. A single row has no limit of ours: it may be the role's, or somebody's cancel."""
        if len(part) == 1:
            self._wait_out(part)
            return
        self.size.cancelled(len(part))
        self.limit = self.size.rows
        self.waiting.extendleft(reversed(part))

    def _has_moved(self) -> bool:
        """Whether pgvector is elsewhere, or has other OIDs, since the claim: then the same slice may pass."""
        with self.runtime.database.transaction(read_only=True) as connection:
            self.runtime.database.refresh_vectors(connection)
        shape = Shape(self.batch.pipeline, self.runtime.database.vector_schema)
        types = self.runtime.database.vectors
        moved = (shape, types) != (self.batch.shape, self.types)
        self.batch, self.types = replace(self.batch, shape=shape), types
        return moved

    def _find_culprit(self, part: list[Prepared], error: Exception) -> None:
        """In halves: one row's expression fails by now, its key is too long for the target's index, the target
        refuses it.
        """
        self.limit = max(1, len(part) // 2)
        if len(part) > 1:
            self.waiting.extendleft(reversed(part))
            return
        words = f"the write failed on this row ({name_of(error)})"
        self.done.failed[part[0].key] = Failure("write_failed", words, part[0].fingerprint, final=False)
        self.done.error = error
        if not self.done.stored and len(self.done.failed) == SEVERAL:
            self._require_blame(error)

    def _require_blame(self, error: BaseException) -> None:
        """Raises where not these rows are to blame but the target, or ourselves: DatabaseRefuses, or `error`."""
        failed = self.done.failed.keys()
        if isinstance(error, psycopg.Error) and is_of_a_row(error):
            fault = fault_without_rows(self.runtime, self.batch.shape)
            if fault is not None:
                raise fault
        if refused_as_a_whole(self.runtime, self.batch, error, failed):
            if not isinstance(error, psycopg.Error):
                raise error
            raise target_refuses(self.runtime, self.batch, error) from None

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


class _LookedTooLongError(Exception):
    """The look under the lock was cancelled."""


def _look(runtime: Runtime, batch: Batch, keys: Sequence[Key], connection: Connection) -> dict[Key, Look]:
    """Only with the work rows locked: whatever commits after it is in the outbox. The drain passes over locked
    rows, and yet they are held no longer than a row may take.
    """
    limit = row_limit(runtime) if len(keys) == 1 else probe_limit(runtime)
    limit_statements(connection, max(limit, runtime.settings.lock_timeout))  # the write behind it has no more
    try:
        return rows.look(connection, batch.shape, keys, text_limit=runtime.settings.text_limit_bytes)
    except psycopg.errors.QueryCanceled:
        raise _LookedTooLongError from None


def _slice(
    runtime: Runtime, batch: Batch, part: Sequence[Prepared], done: Written, *, rehearsal: bool = False
) -> tuple[int, timedelta] | None:
    """One transaction; how many rows it wrote and how long that took besides the round trip, None for no rows."""
    settings = runtime.settings
    took: tuple[int, timedelta] | None = None
    unsteady: dict[Key, Failure] = {}
    with runtime.database.transaction(by_key=True, force_rollback=rehearsal) as connection:
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
                seen = _look(runtime, batch, list(locked), connection)
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
        if rehearsal:
            done.stored |= set(decision.stored)
            return took
        removed = rows.remove(connection, batch.shape, decision.removed) if decision.removed else set()
        reach(Failpoint.WRITE_WRITTEN)
        acknowledged = decision.acknowledged
        if acknowledged and batch.holding.ack(connection, acknowledged) != len(acknowledged):
            raise AssertionError("a locked work row went away")  # pragma: no cover - we hold the lock
        superseded = {row.key for row in part} - set(acknowledged)
        # Paid for, of the generation that we claimed, and yet another text: its event is on its way, or the
        # expression is unsteady and would be paid for for ever.
        paid = {row.key for row in part if row.bought and row.key in seen and row.key in superseded}
        unsteady = {key: UNSTEADY for key in paid if batch.rows[key].attempts >= max(2, settings.attempts)}
        superseded -= unsteady.keys()
        for keys, refund in ((superseded - paid, True), (superseded & paid, False)):
            if keys:
                batch.holding.release_superseded(
                    connection,
                    list(keys),
                    refund=refund,
                    first=settings.backoff_first,
                    longest=settings.backoff_longest,
                )
        reach(Failpoint.WRITE_ACKED)
    reach(Failpoint.WRITE_COMMITTED)
    done.stored |= set(decision.stored)
    done.removed |= removed
    done.absent |= set(decision.removed) - removed
    done.unchanged |= set(decision.unchanged)
    done.superseded |= superseded
    done.failed |= unsteady
    return took
