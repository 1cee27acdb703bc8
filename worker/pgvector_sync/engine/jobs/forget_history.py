"""Delete ended runs and counts of drift that are older than `PGVECTOR_SYNC_KEEP_RUNS` and `…_KEEP_DRIFT`."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import drift, runs


def run_once(database: Database, settings: Settings) -> None:
    with database.transaction() as connection:
        runs.forget(connection, older_than=settings.keep_runs)
        drift.forget(connection, older_than=settings.keep_drift)


JOB = Job("forget_history", timedelta(hours=1), run_once)
