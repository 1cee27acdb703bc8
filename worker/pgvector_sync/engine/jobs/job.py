"""What a periodic job is, and the runner that starts those that are due."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Database
from pgvector_sync.settings import Settings
from pgvector_sync.store import usage
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.dispatch import JobBusy, JobFailed

ASK_EVERY = timedelta(seconds=20)
"""How often, at least, a process asks whether a job is due that another process may have run last."""
EARLY = timedelta(seconds=6)
"""How much earlier, at most, than its interval a job may run, so that a process that asks once per interval
doesn't miss every second one. Short intervals allow a tenth of themselves."""


@dataclass(frozen=True, slots=True)
class Job:
    """Periodic work, done once per interval however many processes ask."""

    name: str
    """Of its row in the table `tick`."""
    every: timedelta
    run_once: Callable[[Database, Settings], object]


class Jobs:
    """Runs those of `jobs` that are due. The database's clock and the table `tick` decide which are."""

    def __init__(self, database: Database, settings: Settings, jobs: Sequence[Job]) -> None:
        self._database, self._settings, self._jobs = database, settings, jobs
        self._ask_at: dict[str, float] = {}

    def __call__(self) -> None:
        """Raises OUTAGE. An unexpected exception in one job stops neither the other jobs nor the caller."""
        for job in self._jobs:
            if time.monotonic() < self._ask_at.get(job.name, 0.0):
                continue
            self._ask_at[job.name] = time.monotonic() + min(job.every, ASK_EVERY).total_seconds()
            if self._take(job):
                self._run(job)

    def _take(self, job: Job) -> bool:
        """Whether this process is the one that runs the job in this interval."""
        try:
            with self._database.transaction() as connection:
                return usage.take_tick(connection, job.name, uuid4(), every=job.every - min(job.every / 10, EARLY))
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
