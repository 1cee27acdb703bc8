"""Write and ack: one short transaction a slice, in the order that the guarantees rest on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.model import Key
from pgvector_sync.store import pipelines, rows
from pgvector_sync.store.database import IN_THE_WAY
from pgvector_sync.store.rows import Look, Vector32
from pgvector_sync.sync.batch.claim import Batch
from pgvector_sync.sync.batch.read import Failure, is_of_a_row
from pgvector_sync.sync.runtime import Runtime

SLICE_TIME = timedelta(milliseconds=20)
"""What a slice should take, so that it stays under ~50 ms when the machine is busy or the index is cold."""
FIRST_SLICE_ROWS = 32
LARGEST_SLICE_ROWS = 512
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
    """Adapts to the index of the target: rows a slice that take about SLICE_TIME."""

    rows: int = FIRST_SLICE_ROWS

    def learn(self, count: int, took: timedelta) -> None:
        fitting = count * (SLICE_TIME / max(took, timedelta(milliseconds=1)))
        self.rows = max(1, min(LARGEST_SLICE_ROWS, int(fitting), self.rows * 2))


_SIZES: dict[str, SliceSize] = {}
"""Per target, kept by the process: only a measurement, so losing or sharing it does no harm."""


def write(runtime: Runtime, batch: Batch, prepared: Sequence[Prepared]) -> Written:
    """Stores what still matches its row and acknowledges it; releases what was superseded."""
    done = Written()
    size = _SIZES.setdefault(batch.pipeline.target_label, SliceSize())
    waiting = deque(prepared)
    limit = size.rows
    give_up = min(batch.until, time.monotonic() + CONTENTION.total_seconds())
    while waiting and time.monotonic() < batch.until:
        part = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        started = time.monotonic()
        try:
            _slice(runtime, batch, part, done)
        except IN_THE_WAY:
            limit = max(1, len(part) // 2)
            if len(part) > 1:
                waiting.extendleft(reversed(part))
            elif time.monotonic() < give_up:
                waiting.extend(part)  # the others first
            else:
                done.held_up.add(part[0].key)
        except psycopg.Error as error:
            if not is_of_a_row(error):
                raise
            # its expression fails by now, or its key is too long for the target's index
            if len(part) > 1:
                limit = len(part) // 2
                waiting.extendleft(reversed(part))
            else:
                words = f"the write failed on this row ({error.sqlstate})"
                done.failed[part[0].key] = Failure("write_failed", words, part[0].fingerprint, final=False)
        else:
            size.learn(len(part), timedelta(seconds=time.monotonic() - started))
            limit = size.rows
    done.held_up |= {row.key for row in waiting}  # the deadline came first
    if done.held_up:
        held_up, delay = list(done.held_up), runtime.settings.backoff_first
        runtime.database.patiently(lambda c: batch.holding.release(c, held_up, delay=delay))
    return done


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


def _slice(runtime: Runtime, batch: Batch, part: Sequence[Prepared], done: Written) -> None:
    settings = runtime.settings
    with runtime.database.transaction() as connection:
        seen: dict[Key, Look] = {}
        if pipelines.hold(connection, batch.pipeline):
            locked = batch.holding.lock(connection, [batch.rows[row.key] for row in part])
            if locked:
                # only now, with the work rows locked: whatever commits after this look is in the outbox
                seen = rows.look(connection, batch.shape, list(locked), text_limit=settings.text_limit_bytes)
        decision = decide(part, seen)
        if decision.stored:
            rows.write(connection, batch.shape, decision.stored)
        if decision.removed:
            rows.remove(connection, batch.shape, decision.removed)
        acknowledged = decision.acknowledged
        if acknowledged and batch.holding.ack(connection, acknowledged) != len(acknowledged):
            raise AssertionError("a locked work row went away")  # pragma: no cover - we hold the lock
        superseded = {row.key for row in part} - set(acknowledged)
        if superseded:
            batch.holding.release_superseded(
                connection, list(superseded), first=settings.backoff_first, longest=settings.backoff_longest
            )
    done.stored |= set(decision.stored)
    done.removed |= set(decision.removed)
    done.unchanged |= set(decision.unchanged)
    done.superseded |= superseded
