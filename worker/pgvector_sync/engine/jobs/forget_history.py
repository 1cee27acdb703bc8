"""Delete ended runs, figures of drift and recall, and history.

`PGVECTOR_SYNC_KEEP_RUNS`, `…_KEEP_DRIFT` and `…_KEEP_HISTORY` say after how long.
"""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import drift, history, index_build, recall_history, runs


def run_once(database: Database, settings: Settings) -> None:
    with database.transaction() as connection:
        runs.forget(connection, older_than=settings.keep_runs)
        index_build.forget(connection, older_than=settings.keep_runs)
        drift.forget(connection, older_than=settings.keep_drift)
        history.forget(connection, older_than=settings.keep_history)
        recall_history.forget(connection, older_than=settings.keep_drift)


JOB = Job("forget_history", timedelta(hours=1), run_once)
