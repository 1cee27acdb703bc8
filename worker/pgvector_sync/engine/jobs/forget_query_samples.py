"""Delete sampled vectors of queries that are old, too many, or of a model that the pipeline no longer has."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import query_samples

KEPT_FOR = timedelta(days=30)


def run_once(database: Database, _settings: Settings) -> None:
    with database.transaction() as connection:
        query_samples.forget(connection, older_than=KEPT_FOR)


JOB = Job("forget_query_samples", timedelta(minutes=10), run_once)
