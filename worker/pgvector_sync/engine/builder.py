"""The thread of a process that builds indexes, one after the other."""

from __future__ import annotations

import threading

import psycopg

from pgvector_sync.database import OUTAGE, Database
from pgvector_sync.errors import SyncError
from pgvector_sync.index.building import advance
from pgvector_sync.index.requests import unfinished, why_it_waits
from pgvector_sync.runtime.bootstrap import open_build_database
from pgvector_sync.settings import Settings
from pgvector_sync.store import index_build
from pgvector_sync.store.index_build import Build
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import JobFailed
from pgvector_sync.telemetry.events.index import IndexBuildPostponed
from pgvector_sync.telemetry.events.process import DatabaseUnavailable

NAME = "build_indexes"
"""The name of the job."""


class Builder:
    """Builds in a thread that doesn't keep the process from ending: the server then carries on."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self, settings: Settings) -> None:
        """Carry out the builds that are due, unless a thread of this process already does."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=build_all, args=(settings,), name="pgvector-sync-builder", daemon=True
        )
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; return whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()


BUILDER = Builder()
"""The builder of this process. A forked child starts a thread of its own."""


def is_due(build: Build) -> bool:
    """Whether a build can be carried out now by a role that may."""
    return not build.held and why_it_waits(build) is None


def build_all(settings: Settings) -> None:
    """Carry out each build that is due. A failure is logged; the job tries again."""
    try:
        with open_build_database(settings) as database:
            for build in unfinished(database):
                if not (build.may_build and is_due(build)):
                    continue
                try:
                    advance(database, build)
                except SyncError as error:
                    _postpone(database, build, error)
                except OUTAGE:
                    raise
                except psycopg.Error as error:  # other builds can be carried out
                    emit(JobFailed(job=NAME, error=error))
    except OUTAGE as error:
        emit(DatabaseUnavailable(sqlstate=error.sqlstate))
    except Exception as error:  # noqa: BLE001  as in other jobs
        emit(JobFailed(job=NAME, error=error))


def _postpone(database: Database, build: Build, error: SyncError) -> None:
    reason = f"{error}; {error.hint}" if error.hint else str(error)
    with database.transaction() as connection:
        index_build.say_why_it_waits(connection, build.id, reason)
    emit(IndexBuildPostponed(pipeline=build.pipeline, build=build.id, reason=Words(str(error))))
