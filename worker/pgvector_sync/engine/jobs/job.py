"""Periodic jobs, and the runner that starts those that are due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Database
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.settings import Settings
from pgvector_sync.store import usage
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.dispatch import JobBusy, JobFailed

CHECK_EVERY = timedelta(seconds=20)
"""Longest time between two checks of a process whether a job, which another process may have run last, is due."""
MAX_EARLY = timedelta(seconds=6)
"""How much earlier than its interval a job may run, so that a process that checks once per interval doesn't miss
every second one. The limit for short intervals is a tenth of the interval."""


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic job, which runs once per interval, however many processes check it."""

    name: str
    """Name of its row in the table `tick`."""
    every: timedelta
    run_once: Callable[[Database, Settings], object]


class Jobs:
    """Runs the jobs that are due, which the database's clock and the table `tick` decide."""

    def __init__(self, database: Database, settings: Settings, jobs: Sequence[Job]) -> None:
        self._database, self._settings, self._jobs = database, settings, jobs
        self._next_check: dict[str, Deadline] = {}

    def to_check(self) -> list[str]:
        """Return the names of the jobs that this process hasn't checked for a while."""
        return [job.name for job in self._jobs if self._is_unchecked(job)]

    def __call__(self, due: Collection[str] | None = None) -> bool:
        """Run the jobs of `to_check`, of which those in `due` may be due (None: all); return whether any ran.

        Raises OUTAGE. An unexpected exception in one job stops neither the other jobs nor the caller.
        """
        ran = False
        for job in self._jobs:
            if not self._is_unchecked(job):
                continue
            self._next_check[job.name] = Deadline.after(min(job.every, CHECK_EVERY))
            if (due is None or job.name in due) and self._take(job):
                ran = True
                self._run(job)
        return ran

    def _is_unchecked(self, job: Job) -> bool:
        next_check = self._next_check.get(job.name)
        return next_check is None or next_check.passed

    def _take(self, job: Job) -> bool:
        """Take the job for this interval. False if it isn't due, or another process has taken it."""
        try:
            with self._database.transaction() as connection:
                return usage.take_tick(
                    connection, job.name, uuid4(), every=job.every - min(job.every / 10, MAX_EARLY)
                )
        except LOCK_CONFLICT:
            return False  # another process is taking it

    def _run(self, job: Job) -> None:
        try:
            job.run_once(self._database, self._settings)
        except LOCK_CONFLICT:
            emit(JobBusy(job=job.name))
        except OUTAGE:
            raise
        except Exception as error:  # noqa: BLE001
            emit(JobFailed(job=job.name, error=error))
