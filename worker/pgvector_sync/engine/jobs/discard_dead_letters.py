"""Discard dead letters that are older than `PGVECTOR_SYNC_DISCARD_DEAD_LETTERS_AFTER`, if it is set."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.settings import Settings
from pgvector_sync.store import dead_letters
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import DeadLettersDiscarded


def run_once(database: Database, settings: Settings) -> None:
    if settings.discard_dead_letters_after is None:
        return
    with database.transaction() as connection:
        discarded = dead_letters.discard_old(connection, older_than=settings.discard_dead_letters_after)
    if discarded:
        emit(DeadLettersDiscarded(rows=discarded))


JOB = Job("discard_dead_letters", timedelta(hours=1), run_once)
