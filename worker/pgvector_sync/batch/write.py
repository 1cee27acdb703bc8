"""Write a batch slice by slice, and find the rows that make a slice fail.

Rows that fail here have been paid for. After a failure of any kind their vectors are kept and written in smaller
and smaller slices: a row at fault loses an attempt, and a failure of every row stops the pipeline.
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
from pgvector_sync.batch.refusal import SUSPICIOUS_ROWS, require_row_fault, safe_name
from pgvector_sync.batch.slice import LookedTooLongError, Written, write_slice
from pgvector_sync.database import LOCK_CONFLICT
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.halving import Parts
from pgvector_sync.model import Key
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.cause import Cause, cause_of
from pgvector_sync.store.shape import Shape

RETRY_AFTER_OUTAGE = timedelta(milliseconds=500)
RETRY_LOCKED_FOR = timedelta(seconds=5)
"""How long a batch keeps the vectors of locked rows and tries again to write them."""
LOCKED_PARTS = 8
"""Number of parts of a slice that met a lock. Each try of a locked part takes as long as `lock_timeout`."""


def write(runtime: Runtime, batch: Batch, prepared: Iterable[Prepared]) -> Written:
    """Store and acknowledge vectors that still match their rows, and release superseded rows.

    Raises DatabaseRefuses if the target refuses every row, and psycopg.OperationalError if the database is away
    for longer than the batch may wait.
    """
    return Writing(runtime, batch, prepared).run()


class Writing:
    """The slices of one batch: chooses the next one and handles failures.

    A rehearsal does the same in transactions that are rolled back. `done.stored` then holds the rows that could be
    written.
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
        self.retry_locked_until = min(batch.until, Deadline.after(RETRY_LOCKED_FOR))

    def run(self) -> Written:
        while self.parts and not self.batch.until.passed:
            self._write_next()
        self._hold_up(self.parts, "the batch had no time left to write this row")
        if self.done.error is not None and not self.done.stored:
            require_row_fault(self.runtime, self.batch, self.done.error, self.done.failed)
        if not self.rehearsal:
            self._release_held_up()
        return self.done

    def _write_next(self) -> None:
        part = self.parts.take(self.size.rows)
        try:
            stored = write_slice(self.runtime, self.batch, part, self.done, rehearsal=self.rehearsal)
        except LOCK_CONFLICT:
            self._retry_locked(part)
        except DatabaseRefuses:
            raise  # no row is at fault: source and target must not be touched
        except LookedTooLongError:
            self._looked_too_long(part)
        except psycopg.errors.QueryCanceled:
            self._cancelled(part)
        except Exception as error:  # noqa: BLE001 - even after a bug, the vectors are paid for and kept
            self._failed(part, error)
        else:
            if stored is not None:
                self.size.learn(*stored)

    def _failed(self, part: list[Prepared], error: Exception) -> None:
        cause = cause_of(error)
        if cause is Cause.OUTAGE:
            self._wait_out(part)
        elif cause is Cause.SCHEMA and self._vectors_have_changed():
            self.parts.put_back(part)
        elif not self.parts.cut(part):
            self._fail_row(part[0], error)

    def _retry_locked(self, part: list[Prepared]) -> None:
        """Retry in smaller parts, so that only the locked rows wait, after all others."""
        if self.parts.cut(part, size=math.ceil(len(part) / LOCKED_PARTS)):
            return
        if not self.retry_locked_until.passed:
            self.parts.put_back(part, last=True)
        else:
            self._hold_up(part, "this row's vectors were locked by another transaction")

    def _hold_up(self, part: Iterable[Prepared], words: str, error_class: str = "write_failed") -> None:
        """Give up writing these rows. A row that was paid for loses its attempt, and is rehearsed next time."""
        for row in part:
            if row.bought:
                self.done.failed[row.key] = Failure(error_class, words, row.fingerprint, final=False)
            else:
                self.done.held_up.add(row.key)

    def _looked_too_long(self, part: list[Prepared]) -> None:
        """Retry in halves. A single row that takes too long gets one more try, after all others."""
        if self.parts.cut(part):
            return
        if part[0].key not in self.slow:
            self.slow.add(part[0].key)
            self.parts.put_back(part, last=True)
        else:
            self._hold_up(part, "text or where took too long before this row could be written", TOO_SLOW)

    def _cancelled(self, part: list[Prepared]) -> None:
        """Retry in much smaller slices. We set no limit for a single row: the role or an operator cancelled it."""
        if len(part) == 1:
            self._wait_out(part)
            return
        self.size.cancelled(len(part))
        self.parts.put_back(part)

    def _vectors_have_changed(self) -> bool:
        """Whether pgvector's schema or OIDs have changed since the claim, so that the same slice may succeed."""
        with self.runtime.database.transaction(read_only=True) as connection:
            self.runtime.database.refresh_vectors(connection)
        shape = Shape(self.batch.pipeline, self.runtime.database.vector_schema)
        types = self.runtime.database.vectors
        changed = (shape, types) != (self.batch.shape, self.types)
        self.batch, self.types = replace(self.batch, shape=shape), types
        return changed

    def _fail_row(self, row: Prepared, error: Exception) -> None:
        """Hold one row responsible: its expression fails now, its key is too long, or the target refuses it."""
        words = f"the write failed on this row ({safe_name(error)})"
        self.done.failed[row.key] = Failure("write_failed", words, row.fingerprint, final=False)
        self.done.error = error
        if not self.done.stored and len(self.done.failed) == SUSPICIOUS_ROWS:
            require_row_fault(self.runtime, self.batch, error, self.done.failed)

    def _wait_out(self, part: Sequence[Prepared]) -> None:
        """Keep the vectors, which are paid for, and wait until the database is back or the batch must end."""
        if self.batch.until.left <= RETRY_AFTER_OUTAGE:
            raise  # noqa: PLE0704  # called while the error is being handled
        self.parts.put_back(part)
        time.sleep(RETRY_AFTER_OUTAGE.total_seconds())

    def _release_held_up(self) -> None:
        if self.done.held_up:
            keys, delay = list(self.done.held_up), self.runtime.settings.backoff_first
            self.runtime.database.retry_on_lock_conflict(
                lambda c: self.batch.holding.release(c, keys, delay=delay)
            )
