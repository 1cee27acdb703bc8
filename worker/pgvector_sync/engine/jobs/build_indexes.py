"""Request the indexes that the file declares, and let this process's builder carry out the builds that are due."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.engine.builder import BUILDER, NAME, is_due
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.errors import SyncError
from pgvector_sync.index.requests import request_declared, unfinished
from pgvector_sync.settings import Settings
from pgvector_sync.store import index_build
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.index import IndexBuildRequested


def run_once(database: Database, settings: Settings) -> None:
    requested, failures = request_declared(database)
    for pipeline, build_id in requested:
        emit(IndexBuildRequested(pipeline=pipeline, build=build_id))
    _build_due(database, settings)
    for failure in failures:
        if not isinstance(failure, SyncError):  # which doctor explains
            raise failure


def _build_due(database: Database, settings: Settings) -> None:
    due = [build for build in unfinished(database) if is_due(build)]
    if any(build.may_build for build in due) or (due and settings.build_database_url is not None):
        BUILDER.start(settings)
        return
    for build in due:
        with database.transaction() as connection:
            index_build.say_why_it_waits(
                connection,
                build.id,
                f"only the owner of {build.schema}.{build.table} can build it: run `pgvector-sync index build "
                f"{build.pipeline} --wait` as that role",
            )


JOB = Job(NAME, timedelta(minutes=1), run_once)
