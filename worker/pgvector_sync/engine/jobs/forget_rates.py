"""Delete the rows per minute of more than an hour ago. `status` estimates from the last hour."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import usage


def run_once(database: Database, _settings: Settings) -> None:
    with database.transaction() as connection:
        usage.forget_minutes(connection)


JOB = Job("forget_rates", timedelta(minutes=1), run_once)
