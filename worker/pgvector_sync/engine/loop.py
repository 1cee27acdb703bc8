"""The loop of `sync`: the whole protocol in one process, without Celery and Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.batch import Outcome, process
from pgvector_sync.database import OUTAGE
from pgvector_sync.engine import jobs
from pgvector_sync.engine.pace import Pace
from pgvector_sync.engine.turn import Engine
from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime import Runtime
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import DatabaseUnavailable

RETRY_AFTER_OUTAGE = timedelta(seconds=1)
SLICE = timedelta(seconds=2)
"""Time limit of a drain or a run within one turn."""


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
    """Drains, carries out runs, then processes one batch per pipeline and lane, in turn and live lanes first."""

    def __init__(self, runtime: Runtime, only: str | None = None) -> None:
        self.runtime = runtime
        self.only = only
        self.progress = Progress()
        self.tried: set[str] = set()
        """The pipelines of which this process has claimed a batch."""
        self._engine = Engine(runtime.database, runtime.settings, jobs.ALL, drain_for=SLICE)

    def turn(self) -> bool:
        """Run one turn. Returns whether anything was processed."""
        turn = self._engine.turn(counted_rows=1)
        moved = turn.moved > 0
        for run_id, _, pipeline in turn.runs:
            if self.only in (None, pipeline):
                moved |= carry_out(self.runtime, run_id, until=Deadline.after(SLICE))
        for item in turn.due:
            if self.only in (None, item.pipeline) and item.rows:
                moved |= self._batch(item.pipeline, item.lane)
        return moved

    def _batch(self, pipeline: str, lane: Lane) -> bool:
        outcome = process(self.runtime, pipeline, lane)
        if outcome is None:
            return False
        self.tried.add(pipeline)
        self.progress.add(outcome)
        return outcome.claimed > outcome.released

    def run(
        self,
        *,
        finished: Callable[[], bool],
        until: Deadline | None = None,
        on_turn: Callable[[Progress], None] = lambda _: None,
    ) -> bool:
        """Take turns until nothing moves and `finished()` is true (returns True), or until `until` (False)."""
        pace = Pace(self.runtime.settings.poll)
        while True:
            try:
                moved = self.turn()
                pace.turned(moved=moved)
                if not moved:
                    if finished():
                        return True
                    # nothing is due yet: backoffs, cool-downs and others' leases end by the database's clock
                    time.sleep(pace.pause(waiting=False).total_seconds())
            except OUTAGE as error:
                emit(DatabaseUnavailable(sqlstate=error.sqlstate))
                time.sleep(RETRY_AFTER_OUTAGE.total_seconds())
            on_turn(self.progress)
            if until is not None and until.passed:
                return False
