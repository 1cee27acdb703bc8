"""Slice: the one transaction that stores and acknowledges some rows, in the order that the guarantees rest on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.decide import Decision, Prepared, decide
from pgvector_sync.batch.failure import Failure
from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime, probe_limit, row_limit
from pgvector_sync.store import pipelines, rows
from pgvector_sync.store.rows import Look

UNSTEADY = Failure("unsteady", "text or where gave another result at every look, though no event came")


@dataclass
class Written:
    """What the slices of a batch come to, row by row."""

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

    def add(self, decision: Decision, removed: set[Key], unsteady: set[Key]) -> None:
        """After the commit of a slice. `removed` had vectors."""
        self.stored |= set(decision.stored)
        self.removed |= removed
        self.absent |= set(decision.removed) - removed
        self.unchanged |= set(decision.unchanged)
        self.superseded |= decision.superseded - unsteady
        self.failed |= dict.fromkeys(unsteady, UNSTEADY)


class LookedTooLongError(Exception):
    """The look under the lock was cancelled."""


def write_slice(
    runtime: Runtime, batch: Batch, part: Sequence[Prepared], done: Written, *, rehearsal: bool = False
) -> tuple[int, timedelta] | None:
    """One transaction; how many rows it wrote and how long that took besides the round trip, None for no rows."""
    with runtime.database.transaction(by_key=True, force_rollback=rehearsal) as connection:
        started = time.monotonic()
        held = pipelines.hold(connection, batch.pipeline)
        round_trip = time.monotonic() - started
        reach(Failpoint.WRITE_HELD)
        seen = _lock_and_look(runtime, batch, part, connection) if held else {}
        reach(Failpoint.WRITE_LOOKED)
        decision = decide(part, seen)
        if len(part) > 1:
            # Of several rows one is locked while we wait for the next, or for a slow index, and the application
            # may wait for it. Bounded as a whole, we are gone before its deadlock_timeout finds a circle, which
            # would end its transaction and not ours.
            limit_statements(connection, runtime.settings.lock_timeout)
        took = _store(batch, decision, connection, round_trip)
        if rehearsal:
            done.stored |= set(decision.stored)
            return took
        removed = rows.remove(connection, batch.shape, decision.removed) if decision.removed else set()
        reach(Failpoint.WRITE_WRITTEN)
        acknowledged = decision.acknowledged
        if acknowledged and batch.holding.ack(connection, acknowledged) != len(acknowledged):
            raise AssertionError("a locked work row went away")  # pragma: no cover - we hold the lock
        unsteady = _release_superseded(runtime, batch, decision, connection)
        reach(Failpoint.WRITE_ACKED)
    reach(Failpoint.WRITE_COMMITTED)
    done.add(decision, removed, unsteady)
    return took


def _lock_and_look(
    runtime: Runtime, batch: Batch, part: Sequence[Prepared], connection: Connection
) -> dict[Key, Look]:
    """Locks the work rows that are still ours, then reads their rows' fingerprints."""
    locked = batch.holding.lock(connection, [batch.rows[row.key] for row in part])
    reach(Failpoint.WRITE_LOCKED)
    if not locked:
        return {}
    # Before any weaker lock on the target: if we read it and then waited to write, a migration that locks it
    # weakly and then strongly would die of us, at once.
    rows.require_open_to_writes(connection, batch.shape)
    return _look(runtime, batch, list(locked), connection)


def _look(runtime: Runtime, batch: Batch, keys: Sequence[Key], connection: Connection) -> dict[Key, Look]:
    """Only with the work rows locked: whatever commits after it is in the outbox. The drain passes over locked
    rows, and yet they are held no longer than a row may take.
    """
    limit = row_limit(runtime) if len(keys) == 1 else probe_limit(runtime)
    limit_statements(connection, max(limit, runtime.settings.lock_timeout))  # the write behind it has no more
    try:
        return rows.look(connection, batch.shape, keys, text_limit=runtime.settings.text_limit_bytes)
    except psycopg.errors.QueryCanceled:
        raise LookedTooLongError from None


def _store(
    batch: Batch, decision: Decision, connection: Connection, round_trip: float
) -> tuple[int, timedelta] | None:
    """Writes the vectors; how many, and how long that took besides the round trips."""
    if not decision.stored:
        return None
    started = time.monotonic()
    rows.write(connection, batch.shape, list(decision.stored.values()))
    seconds = max(0.0, time.monotonic() - started - rows.WRITE_STATEMENTS * round_trip)
    return len(decision.stored), timedelta(seconds=seconds)


def _release_superseded(runtime: Runtime, batch: Batch, decision: Decision, connection: Connection) -> set[Key]:
    """Gives superseded rows back, those that were paid for without their attempt; returns the unsteady ones, which
    have no attempt left and are kept.
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
