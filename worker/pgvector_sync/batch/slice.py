"""Slice: the transaction that stores and acknowledges some rows, in the order that the guarantees depend on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.decide import Decision, Prepared, decide
from pgvector_sync.batch.failure import Failure
from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime, part_limit, row_limit
from pgvector_sync.store import pipelines, rows
from pgvector_sync.store.rows import Look
from pgvector_sync.store.work import Place

UNSTEADY = Failure("unsteady", "text or where returned a different result each time, though the row didn't change")


@dataclass
class Written:
    """The rows of a batch by the result of their write."""

    stored: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)
    absent: set[Key] = field(default_factory=set)
    """Rows that should have no vector and had none."""
    unchanged: set[Key] = field(default_factory=set)
    superseded: set[Key] = field(default_factory=set)
    held_up: set[Key] = field(default_factory=set)
    """Rows that weren't paid for and couldn't be written, mostly because they are locked. They are released."""
    failed: dict[Key, Failure] = field(default_factory=dict)
    """Rows that make the write fail, rows that were paid for and couldn't be written, and unsteady rows."""
    error: BaseException | None = None
    """The exception of the latest row in `failed`."""

    @property
    def acknowledged(self) -> int:
        return len(self.stored) + len(self.removed) + len(self.absent) + len(self.unchanged)

    def add(self, decision: Decision, removed: set[Key], unsteady: set[Key]) -> None:
        """Add a slice that has committed. `removed` are the rows that had vectors."""
        self.stored |= set(decision.stored)
        self.removed |= removed
        self.absent |= set(decision.removed) - removed
        self.unchanged |= set(decision.unchanged)
        self.superseded |= decision.superseded - unsteady
        self.failed |= dict.fromkeys(unsteady, UNSTEADY)


class LookedTooLongError(Exception):
    """Reading the rows again under the lock took too long and was cancelled."""


def write_slice(
    runtime: Runtime, batch: Batch, part: Sequence[Prepared], done: Written, *, rehearsal: bool = False
) -> tuple[int, timedelta] | None:
    """Write, remove or release the rows of `part` in one transaction.

    Returns the number of vectors written and how long that took without round trips, or None if there were none.
    """
    with runtime.database.transaction(by_key=True, force_rollback=rehearsal) as connection:
        started = time.monotonic()
        held = pipelines.hold(connection, batch.pipeline)
        round_trip = time.monotonic() - started
        reach(Failpoint.WRITE_HELD)
        locked = _lock(batch, part, connection) if held else {}
        seen = _look(runtime, batch, list(locked), connection) if locked else {}
        reach(Failpoint.WRITE_LOOKED)
        decision = decide(part, seen)
        if len(part) > 1:
            # We hold the locks of earlier rows while we wait for the next one or for a slow index, and the
            # application may wait for them. With this limit we are gone before its deadlock_timeout, which would
            # end its transaction and not ours.
            limit_statements(connection, runtime.settings.lock_timeout)
        stored = _store(batch, decision, connection, round_trip)
        # looked at under the lock, so no other worker has written chunks since
        with_chunks = [key for key in decision.stored if (seen[key].last_chunk or 0) > 0]
        if with_chunks:
            rows.trim(connection, batch.shape, with_chunks)
        if rehearsal:
            done.stored |= set(decision.stored)
            return stored
        removed = rows.remove(connection, batch.shape, decision.removed) if decision.removed else set()
        reach(Failpoint.WRITE_WRITTEN)
        _acknowledge(batch, decision, removed, locked, connection)
        unsteady = _release_superseded(runtime, batch, decision, connection)
        reach(Failpoint.WRITE_ACKED)
    reach(Failpoint.WRITE_COMMITTED)
    done.add(decision, removed, unsteady)
    return stored


def _lock(batch: Batch, part: Sequence[Prepared], connection: Connection) -> dict[Key, Place]:
    """Lock the work rows that are still ours, and return their places."""
    locked = batch.holding.lock(connection, [batch.rows[row.key] for row in part])
    reach(Failpoint.WRITE_LOCKED)
    return locked


def _look(runtime: Runtime, batch: Batch, keys: Sequence[Key], connection: Connection) -> dict[Key, Look]:
    """Read the rows again. The work rows must be locked, so that any later change is still in the outbox.

    The time limit bounds how long they stay locked, since the drain skips locked rows.
    """
    # Before any weaker lock on the target. If we read it first and then waited to write, a migration that takes a
    # weak and then a strong lock on it would fail with a deadlock.
    rows.require_open_to_writes(connection, batch.shape)
    limit = row_limit(runtime) if len(keys) == 1 else part_limit(runtime)
    # at least as long as the write that follows may take
    limit_statements(connection, max(limit, runtime.settings.lock_timeout))
    try:
        return rows.look(connection, batch.shape, keys, text_limit=runtime.settings.text_limit_bytes)
    except psycopg.errors.QueryCanceled:
        raise LookedTooLongError from None


def _store(
    batch: Batch, decision: Decision, connection: Connection, round_trip: float
) -> tuple[int, timedelta] | None:
    """Write the vectors. Returns how many and how long that took without round trips, or None for none."""
    if not decision.stored:
        return None
    started = time.monotonic()
    rows.write(connection, batch.shape, list(decision.stored.values()))
    seconds = max(0.0, time.monotonic() - started - rows.WRITE_STATEMENTS * round_trip)
    return len(decision.stored), timedelta(seconds=seconds)


def _acknowledge(
    batch: Batch, decision: Decision, removed: set[Key], locked: Mapping[Key, Place], connection: Connection
) -> None:
    """Acknowledge the rows that are as they should be. `removed` are those that had vectors."""
    if not (keys := decision.acknowledged):
        return
    acknowledged = batch.holding.ack(
        connection,
        [locked[key] for key in keys],
        stored=len(decision.stored),
        removed=len(removed),
        absent=len(decision.removed) - len(removed),
        unchanged=len(decision.unchanged),
    )
    if acknowledged != len(keys):
        raise AssertionError("a locked work row disappeared")  # pragma: no cover - we hold the lock


def _release_superseded(runtime: Runtime, batch: Batch, decision: Decision, connection: Connection) -> set[Key]:
    """Release superseded rows, with their attempt refunded unless they were paid for.

    Returns the unsteady rows, which have no attempts left and aren't released.
    """
    settings = runtime.settings
    unsteady = {key for key in decision.paid if batch.rows[key].attempts >= max(2, settings.attempts)}
    for keys, refund in ((decision.superseded - decision.paid, True), (decision.paid - unsteady, False)):
        if keys:
            batch.holding.release_superseded(
                connection,
                list(keys),
                refund=refund,
                first=settings.backoff_first,
                longest=settings.backoff_longest,
            )
    return unsteady
