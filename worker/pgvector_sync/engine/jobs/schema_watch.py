"""Compare the installed schema with what each pipeline needs (G15); see `engine.watch`."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine import watch
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings


def run_once(database: Database, _settings: Settings) -> None:
    watch.look_now(database)


JOB = Job("schema_watch", timedelta(seconds=20), run_once)
