"""One turn of the engine, shared by the relay, beat's tick and `sync`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.capture.drain import Drain
from pgvector_sync.database import Database
from pgvector_sync.engine.jobs import Job, Jobs
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Kind
from pgvector_sync.runtime.keeper import expire_leases
from pgvector_sync.settings import Settings
from pgvector_sync.store import poll, runs, work
from pgvector_sync.store.due_hints import DueHints
from pgvector_sync.store.poll import Signs
from pgvector_sync.store.work import Due

FULL_TURN_EVERY = timedelta(seconds=30)
"""How often a turn is taken without regard to what the look has found."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The events that one turn has moved, and the work that is due."""

    moved: int
    """Outbox events that became work or dead letters."""
    runs: list[tuple[int, Kind, str]]
    """(run id, kind, pipeline) of runs that no process is carrying out."""
    due: list[Due]
    """Number of claimable rows per pipeline and lane, which may be 0. Empty if the look has found nothing."""
    reconciling: int = 0
    """How many reconciliations workers are carrying out, if further ones are due."""


class Engine:
    """Remembers between turns how far the drain is, where due rows begin, and when each job was last checked.

    For work that is due, the relay and the tick ring doorbells; `sync` embeds it.
    """

    def __init__(
        self, database: Database, settings: Settings, jobs: Sequence[Job], *, drain_for: timedelta
    ) -> None:
        """`drain_for` is the time limit of the drain within a turn."""
        self._database, self._settings = database, settings
        self._drain_for = drain_for
        self._run_jobs = Jobs(database, settings, jobs)
        self._drain = Drain(database, settings.drain_rows, settings.burst_rows)
        self._hints = DueHints()
        self._next_full_turn: Deadline | None = None

    def look(self) -> Signs:
        """Return what a turn may find, with one statement. Raises OUTAGE.

        At first and from time to time, it returns all signs, so that one that the look misses costs time only.
        """
        start, to_check = self._drain.start(), self._run_jobs.to_check()
        with self._database.connection() as connection:
            signs = poll.look(
                connection, after_id=start, grace=self._settings.grace, jobs=to_check, hints=self._hints
            )
        if not signs.events:
            self._drain.note_scan(start)
        if to_check and not signs.jobs:
            self._run_jobs(())  # none of them is due
        if self._next_full_turn is None or self._next_full_turn.passed:
            self._next_full_turn = Deadline.after(FULL_TURN_EVERY)
            return signs.everything
        return signs

    def turn(self, *, counted_rows: int, signs: Signs | None = None) -> Turn:
        """Run the jobs that are due, drain the outbox, expire leases, then count the claimable rows.

        Only that is done of which `look` has given a sign. Rows of a lane are counted up to `counted_rows`.
        Raises OUTAGE.
        """
        signs = signs or self.look()
        if signs.jobs and self._run_jobs(signs.jobs):
            signs = signs.everything  # a job may have added anything
        moved = 0
        if signs.events or signs.sweeps:
            moved = self._drain(until=Deadline.after(self._drain_for), sweeps=signs.sweeps)
        if signs.leases:
            expire_leases(self._database, self._settings)
        if not (moved or signs.leases or signs.runs or signs.work):
            return Turn(moved, [], [])
        with self._database.transaction(read_only=True) as connection:
            due_runs = runs.due_runs(connection)
            due = work.due(connection, limit=counted_rows, hints=self._hints)
            reconciles = any(kind is Kind.RECONCILE for _, kind, _ in due_runs)
            return Turn(moved, due_runs, due, runs.reconciling(connection) if reconciles else 0)
