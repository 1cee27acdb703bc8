"""Store the state of each pipeline once per minute, for the charts of the status page."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import history, status


def run_once(database: Database, _settings: Settings) -> None:
    with database.transaction() as connection:
        rows = status.pipelines(connection, limit=status.COUNT_LIMIT_ROWS)
        history.record(connection, [status.counts(row) for row in rows])


JOB = Job("record_history", timedelta(minutes=1), run_once)
