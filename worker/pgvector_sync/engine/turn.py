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
from pgvector_sync.runtime.keeper import Expiry
from pgvector_sync.settings import Settings
from pgvector_sync.store import runs, work
from pgvector_sync.store.work import Due


@dataclass(frozen=True, slots=True)
class Turn:
    """The events that one turn has moved, and the work that is due."""

    moved: int
    """Outbox events that became work or dead letters."""
    runs: list[tuple[int, Kind, str]]
    """(run id, kind, pipeline) of runs that no process is carrying out."""
    due: list[Due]
    """Number of claimable rows per pipeline and lane, which may be 0."""


class Engine:
    """Remembers between turns how far the drain has come and when each job was last checked.

    For work that is due, the relay and the tick ring doorbells; `sync` embeds it.
    """

    def __init__(
        self, database: Database, settings: Settings, jobs: Sequence[Job], *, drain_for: timedelta
    ) -> None:
        """`drain_for` is the time limit of the drain within a turn."""
        self._database = database
        self._drain_for = drain_for
        self._run_jobs = Jobs(database, settings, jobs)
        self._drain = Drain(database, settings.drain_rows, settings.burst_rows)
        self._expire_leases = Expiry(database, settings)

    def turn(self, *, counted_rows: int) -> Turn:
        """Run the jobs that are due, drain the outbox, expire leases, then count the claimable rows.

        Rows of a lane are counted up to `counted_rows`. Raises OUTAGE.
        """
        self._run_jobs()
        moved = self._drain(until=Deadline.after(self._drain_for))
        self._expire_leases()
        with self._database.transaction(read_only=True) as connection:
            return Turn(moved, runs.due_runs(connection), work.due(connection, limit=counted_rows))
