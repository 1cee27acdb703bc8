"""Delete ended runs, counts of drift, and history, after `PGVECTOR_SYNC_KEEP_RUNS`, `…_DRIFT` and `…_HISTORY`."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import drift, history, index_build, runs


def run_once(database: Database, settings: Settings) -> None:
    with database.transaction() as connection:
        runs.forget(connection, older_than=settings.keep_runs)
        index_build.forget(connection, older_than=settings.keep_runs)
        drift.forget(connection, older_than=settings.keep_drift)
        history.forget(connection, older_than=settings.keep_history)


JOB = Job("forget_history", timedelta(hours=1), run_once)
