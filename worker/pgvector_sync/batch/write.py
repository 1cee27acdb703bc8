"""Write: the slices of a batch one after the other, and what becomes of one that fails.

What fails here has been paid for. So a failure of any kind is looked for in ever smaller slices, with the vectors
kept: one row's fault costs that row an attempt, and what fails for every row stops the pipeline.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.decide import Prepared
from pgvector_sync.batch.failure import TOO_SLOW, Failure
from pgvector_sync.batch.refusal import SEVERAL, name_of, require_blame
from pgvector_sync.batch.slice import LookedTooLongError, Written, write_slice
from pgvector_sync.database import LOCK_CONFLICT
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.halving import Parts
from pgvector_sync.model import Key
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.cause import Cause, cause_of
from pgvector_sync.store.shape import Shape

AFTER_AN_OUTAGE = timedelta(milliseconds=500)
CONTENTION = timedelta(seconds=5)
"""How long rows that the application holds locked are tried again, with their vectors kept."""
LOCKED_PARTS = 8
"""Into which a slice is cut that met a lock: each try of a locked part takes as long as `lock_timeout`."""


def write(runtime: Runtime, batch: Batch, prepared: Iterable[Prepared]) -> Written:
    """Stores what still matches its row and acknowledges it; releases what was superseded.

    Raises DatabaseRefuses where the target refuses every row, and psycopg.OperationalError where the database
    stays away longer than the batch may wait.
    """
    return Writing(runtime, batch, prepared).run()


class Writing:
    """The slices of one batch: which is next, and what becomes of one that fails.

    A rehearsal does the same in transactions that are rolled back; `stored` then are rows that could be written.
    """

    def __init__(
        self, runtime: Runtime, batch: Batch, waiting: Iterable[Prepared], *, rehearsal: bool = False
    ) -> None:
        self.runtime, self.batch, self.rehearsal = runtime, batch, rehearsal
        self.parts = Parts(waiting)
        self.types = runtime.database.vectors
        self.done = Written()
        self.size = runtime.slice_size(batch.pipeline)
        self.slow: set[Key] = set()
        self.give_up = min(batch.until, Deadline.after(CONTENTION))

    def run(self) -> Written:
        while self.parts and not self.batch.until.passed:
            self._write_next()
        self._hold_up(self.parts, "the batch had no time left to write this row")
        if self.done.error is not None and not self.done.stored:
            require_blame(self.runtime, self.batch, self.done.error, self.done.failed)
        if not self.rehearsal:
            self._release_held_up()
        return self.done

    def _write_next(self) -> None:
        part = self.parts.take(self.size.rows)
        try:
            took = write_slice(self.runtime, self.batch, part, self.done, rehearsal=self.rehearsal)
        except LOCK_CONFLICT:
            self._make_way(part)
        except DatabaseRefuses:
            raise  # neither source nor target may be touched
        except LookedTooLongError:
            self._looked_too_long(part)
        except psycopg.errors.QueryCanceled:
            self._cancelled(part)
        except Exception as error:  # noqa: BLE001 - a bug, a time limit: whatever it is, it was paid for
            self._failed(part, error)
        else:
            if took is not None:
                self.size.learn(*took)

    def _failed(self, part: list[Prepared], error: Exception) -> None:
        cause = cause_of(error)
        if cause is Cause.OUTAGE:
            self._wait_out(part)
        elif cause is Cause.SCHEMA and self._has_moved():
            self.parts.put_back(part)
        elif not self.parts.cut(part):
            self._blame(part[0], error)

    def _make_way(self, part: list[Prepared]) -> None:
        """In parts, so that only the rows that somebody else holds wait, after the others."""
        if self.parts.cut(part, size=math.ceil(len(part) / LOCKED_PARTS)):
            return
        if self.give_up.passed:
            self._hold_up(part, "the application held this row's vectors locked")
        else:
            self.parts.put_back(part, last=True)

    def _hold_up(self, part: Iterable[Prepared], words: str, error_class: str = "write_failed") -> None:
        """What was paid for uses up its attempt; its next write is rehearsed before it is bought again."""
        for row in part:
            if row.bought:
                self.done.failed[row.key] = Failure(error_class, words, row.fingerprint, final=False)
            else:
                self.done.held_up.add(row.key)

    def _looked_too_long(self, part: list[Prepared]) -> None:
        """In halves; a row whose text takes too long by now gets one more look, after the others."""
        if self.parts.cut(part):
            return
        if part[0].key not in self.slow:
            self.slow.add(part[0].key)
            self.parts.put_back(part, last=True)
        else:
            self._hold_up(part, "text or where took too long before this row could be written", TOO_SLOW)

    def _cancelled(self, part: list[Prepared]) -> None:
        """In far smaller slices. A single row has no limit of ours: it may be the role's, or somebody's cancel."""
        if len(part) == 1:
            self._wait_out(part)
            return
        self.size.cancelled(len(part))
        self.parts.put_back(part)

    def _has_moved(self) -> bool:
        """Whether pgvector is elsewhere, or has other OIDs, since the claim: then the same slice may pass."""
        with self.runtime.database.transaction(read_only=True) as connection:
            self.runtime.database.refresh_vectors(connection)
        shape = Shape(self.batch.pipeline, self.runtime.database.vector_schema)
        types = self.runtime.database.vectors
        moved = (shape, types) != (self.batch.shape, self.types)
        self.batch, self.types = replace(self.batch, shape=shape), types
        return moved

    def _blame(self, row: Prepared, error: Exception) -> None:
        """Its expression fails by now, its key is too long for the target's index, or the target refuses it."""
        words = f"the write failed on this row ({name_of(error)})"
        self.done.failed[row.key] = Failure("write_failed", words, row.fingerprint, final=False)
        self.done.error = error
        if not self.done.stored and len(self.done.failed) == SEVERAL:
            require_blame(self.runtime, self.batch, error, self.done.failed)

    def _wait_out(self, part: Sequence[Prepared]) -> None:
        """The vectors are paid for and the lease is still ours: keep them until the database is back."""
        if self.batch.until.left <= AFTER_AN_OUTAGE:
            raise  # noqa: PLE0704  # called while the error is being handled
        self.parts.put_back(part)
        time.sleep(AFTER_AN_OUTAGE.total_seconds())

    def _release_held_up(self) -> None:
        if self.done.held_up:
            keys, delay = list(self.done.held_up), self.runtime.settings.backoff_first
            self.runtime.database.retry_on_lock_conflict(
                lambda c: self.batch.holding.release(c, keys, delay=delay)
            )
