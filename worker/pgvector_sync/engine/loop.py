"""The loop of `sync`: the whole protocol in one process, without Celery and Redis."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from pgvector_sync.batch import Outcome, process
from pgvector_sync.database import OUTAGE
from pgvector_sync.embedding.dialects import dialect_named
from pgvector_sync.engine import jobs
from pgvector_sync.engine.in_flight import InFlight, wait_for_all, wait_for_any
from pgvector_sync.engine.pace import FLOWING, Pace
from pgvector_sync.engine.shares import batches_wanted, share_of
from pgvector_sync.engine.turn import Engine
from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime import Runtime
from pgvector_sync.store.work import Due
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import DatabaseUnavailable

RETRY_AFTER_OUTAGE = timedelta(seconds=1)
SLICE = timedelta(seconds=2)
"""Time limit of a drain or a run within one turn."""
SLICE_BETWEEN_BATCHES = timedelta(milliseconds=100)
"""Time limit of a drain while batches are in flight: as soon as one has ended, the next should start."""


@dataclass
class Progress:
    """Number of rows processed so far, by result."""

    stored: int = 0
    removed: int = 0
    absent: int = 0
    """Rows that should have no vector and had none."""
    unchanged: int = 0
    superseded: int = 0
    parked: int = 0

    def add(self, outcome: Outcome) -> None:
        self.stored += outcome.stored
        self.removed += outcome.removed
        self.absent += outcome.absent
        self.unchanged += outcome.unchanged
        self.superseded += outcome.superseded
        self.parked += outcome.parked

    @property
    def done(self) -> int:
        return self.stored + self.removed + self.absent + self.unchanged


class Loop:
    """Drains, carries out runs, and processes batches, live lanes first."""

    def __init__(
        self,
        runtime: Runtime,
        only: str | None = None,
        *,
        concurrency: int = 1,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """`concurrency` is the number of batches in flight at once.

        With 1, a turn processes them itself, one per pipeline and lane. With more, they are processed in threads,
        there may be one more for live changes, and each run is walked in a thread as well; call `finish` at the
        end. The pool needs a connection for each. `on_look` is called after each look for work.
        """
        self.runtime = runtime
        self.only = only
        self.progress = Progress()
        self.tried: set[str] = set()
        """The pipelines of which this process has claimed a batch."""
        self.in_flight = InFlight[Outcome | None]("batch")
        self._walks = InFlight[bool]("run")
        self._started: dict[str, int] = {}
        """For each pipeline, the number of its latest batch, over all pipelines."""
        several = concurrency > 1
        self._slots = concurrency + 1 if several else 1
        self._counted_rows = concurrency * runtime.settings.bulk_batch_size if several else 1
        drain_for = SLICE_BETWEEN_BATCHES if several else SLICE
        self._engine = Engine(runtime.database, runtime.settings, jobs.ALL, drain_for=drain_for)
        self._on_look = on_look
        self._pace = Pace(runtime.settings.poll)
        self._in_vain = False
        """Whether a batch has just found nothing: another process holds what is due."""

    def turn(self) -> bool:
        """Run one turn. Returns whether anything was processed.

        Raises OUTAGE, what ended a batch in flight, and MigrationRefused if the schema no longer fits.
        """
        self.runtime.admission.require()
        moved = self._in_vain = False
        for pipeline, outcome in self.in_flight.ended():
            moved |= self._count(pipeline, outcome)
            self._in_vain |= outcome is None
        for _, run_ended in self._walks.ended():
            moved |= run_ended
        signs = self._engine.look()
        self._on_look()
        full = 0 < self._slots - 1 <= len(self.in_flight)  # one slot is kept for live changes
        if full and not self._pace.calls_for_a_turn(signs):
            return moved
        turn = self._engine.turn(counted_rows=self._counted_rows, signs=signs)
        moved |= turn.moved > 0
        for run_id, _, pipeline in turn.runs:
            if self.only in (None, pipeline):
                moved |= self._walk(run_id)
        lanes = [item for item in turn.due if self.only in (None, item.pipeline)]
        due = [item for item in lanes if item.rows]
        if self._slots > 1:
            self._start(due, lanes)
        else:
            for item in due:
                moved |= self._count(item.pipeline, process(self.runtime, item.pipeline, item.lane))
        self._pace.turned(moved=moved)
        return moved

    def _walk(self, run_id: int) -> bool:
        """Walk a run, in a thread if batches are: a page may take a second. Returns whether the run has ended."""
        if self._slots == 1:
            return carry_out(self.runtime, run_id, until=Deadline.after(SLICE))
        if self._walks.of(str(run_id)) == 0:  # else it hasn't claimed the run yet, or has just released it
            self._walks.start(str(run_id), lambda: carry_out(self.runtime, run_id, until=Deadline.after(SLICE)))
        return False

    def _start(self, due: Sequence[Due], lanes: Sequence[Due]) -> None:
        """Start batches while there is room, for one lane after the other."""
        waiting = deque((item, self._share(item, lanes)) for item in sorted(due, key=self._turn_of))
        started: Counter[tuple[str, Lane]] = Counter()
        while waiting and len(self.in_flight) < self._slots:
            item, share = waiting.popleft()
            own = self.in_flight.of(item.pipeline)  # some of them may not have claimed their rows yet
            wanted = batches_wanted(item, share=share, settings=self.runtime.settings)
            if started[item.pipeline, item.lane] < wanted and own < (share if item.state == "active" else 1):
                batch = partial(process, self.runtime, item.pipeline, item.lane, share=share)
                self.in_flight.start(item.pipeline, batch)
                self._started[item.pipeline] = max(self._started.values(), default=0) + 1
                started[item.pipeline, item.lane] += 1
                waiting.append((item, share))

    def _turn_of(self, item: Due) -> tuple[bool, bool, int]:
        """A sort key, so that no pipeline takes each slot that becomes free.

        Pipelines without a batch in flight come first, live lanes before bulk lanes, then who has waited longest.
        """
        busy = self.in_flight.of(item.pipeline) > 0
        return busy, item.lane is Lane.BULK, self._started.get(item.pipeline, 0)

    def _share(self, item: Due, lanes: Sequence[Due]) -> int:
        if not dialect_named(item.dialect).remote:
            return 1  # a local model uses all cores for one batch
        return share_of(item, lanes, slots=self._slots, settings=self.runtime.settings)

    def _count(self, pipeline: str, outcome: Outcome | None) -> bool:
        """Add what a batch has done to the progress. Returns whether it did anything."""
        if outcome is None:
            return False
        self.tried.add(pipeline)
        self.progress.add(outcome)
        return outcome.claimed > outcome.released

    def finish(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Wait for batches and walks in flight, and start no others. Gives up once `hurried` returns True."""
        wait_for_all(self.in_flight, self._walks, hurried=hurried)
        with suppress(Exception):  # nobody waits for their outcome any more, except for the count
            for pipeline, outcome in self.in_flight.ended():
                self._count(pipeline, outcome)

    def run(
        self,
        *,
        finished: Callable[[], bool],
        until: Deadline | None = None,
        on_turn: Callable[[Progress], None] = lambda _: None,
    ) -> bool:
        """Take turns until nothing moves and `finished()` is true (returns True), or until `until` (False).

        Raises what ended a batch, unless it was an outage of the database.
        """
        while True:
            try:
                moved = self.turn()
                if not moved and not self.in_flight and not self._walks:
                    if finished():
                        return True
                    # nothing is due yet: backoffs, cool-downs and others' leases end by the database's clock
                    time.sleep(self._pace.pause(waiting=False).total_seconds())
                elif not moved and self._in_vain:
                    time.sleep(self._pace.pause(waiting=True).total_seconds())
                elif not moved:
                    # a run that is walked adds rows at any moment
                    pause = FLOWING if self._walks else self._pace.pause(waiting=True)
                    wait_for_any(self.in_flight, self._walks, limit=pause)
            except OUTAGE as error:
                emit(DatabaseUnavailable(sqlstate=error.sqlstate))
                time.sleep(RETRY_AFTER_OUTAGE.total_seconds())
            on_turn(self.progress)
            if until is not None and until.passed:
                return False
