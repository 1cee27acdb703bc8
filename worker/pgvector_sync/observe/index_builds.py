"""Builds of indexes as users see them, and waiting for one, which carries it out meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from pgvector_sync.database import Connection, Database
from pgvector_sync.errors import Refused
from pgvector_sync.index.building import advance
from pgvector_sync.index.requests import why_it_waits
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.store import index_build
from pgvector_sync.store.index_build import Build

POLL_EVERY = timedelta(milliseconds=500)
NEW_FOR = timedelta(days=1)
"""How long the use of an index says nothing."""


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """A build of a vector index: its request, its progress and its result."""

    id: int
    pipeline: str
    state: str
    """`waiting`, `building`, `swapping` (complete, not yet renamed), `done`, `failed` or `cancelled`."""
    reason: str | None
    """Why it waits, has failed or was cancelled."""
    method: str
    index: str | None
    """The name of the index once it is complete; None before the build begins."""
    replaces: str | None
    """The index that is dropped then."""
    declared: bool
    """Whether the file has requested it."""
    requested_by: str
    requested_at: datetime
    attempts: int
    started_at: datetime | None
    """Of the last attempt."""
    ended_at: datetime | None
    phase: str | None
    """As in pg_stat_progress_create_index."""
    done_share: float | None
    """Of the phase."""
    time_left: timedelta | None
    """Of the phase, extrapolated."""
    waits_for: int | None
    """The pid of a session whose transaction has to end first."""
    rows: int | None
    """Of the finished index, as are the following."""
    bytes: int | None
    parameters: tuple[str, ...]
    pgvector: str | None
    memory_bytes: int | None
    """maintenance_work_mem of the last attempt."""
    workers: int | None
    """Parallel workers at most; None: max_parallel_maintenance_workers of the server."""
    changes: int | None
    """Vectors that the pipeline had stored and removed when the last attempt started."""

    @property
    def unfinished(self) -> bool:
        return self.state in index_build.UNFINISHED

    @classmethod
    def of(cls, build: Build) -> Self:
        assert build.plan.method is not None  # noqa: S101  a constraint of the table
        return cls(
            id=build.id,
            pipeline=build.pipeline,
            state=build.state,
            reason=build.reason
            if build.ended_at
            else (None if build.held else why_it_waits(build)) or build.reason,
            method=build.plan.method.value,
            index=build.index_name,
            replaces=build.replaces,
            declared=build.declared,
            requested_by=build.requested_by,
            requested_at=build.requested_at,
            attempts=build.attempts,
            started_at=build.started_at,
            ended_at=build.ended_at,
            phase=build.phase,
            done_share=build.done_share,
            time_left=build.time_left,
            waits_for=build.waits_for,
            rows=build.rows,
            bytes=build.bytes,
            parameters=build.parameters,
            pgvector=build.pgvector,
            memory_bytes=build.used_memory,
            workers=build.workers,
            changes=build.changes,
        )


Look = Callable[[IndexBuild], object]


def list_builds(database: Database, pipeline: str | None = None, *, limit: int) -> list[IndexBuild]:
    """Return builds, newest first."""
    with database.transaction(read_only=True) as connection:
        return [
            IndexBuild.of(build) for build in index_build.list_builds(connection, pipeline=pipeline, limit=limit)
        ]


def of_last_build(connection: Connection, pipeline: Pipeline) -> Iterator[Finding]:
    """Say how the last build of a pipeline's index stands, unless it is done."""
    if not index_build.readable(connection):
        return
    for stored in index_build.list_builds(connection, pipeline=pipeline.name, limit=1):
        build = IndexBuild.of(stored)
        if build.state == "failed":
            yield warning(
                f"the last build of an index failed: {build.reason}",
                f"pgvector-sync index build {pipeline.name} --wait",
            )
        elif build.unfinished:
            why = f": {build.reason}" if build.reason else ""
            yield ok(f"build {build.id} is {build.state}{why}", f"pgvector-sync index builds {pipeline.name}")
        if stored.left_over and not build.unfinished:
            yield ok(
                f"{stored.preliminary}, which build {build.id} has left unfinished, isn't dropped yet",
                "beat or `pgvector-sync sync` drops it",
            )


def new_indexes(connection: Connection, pipeline: Pipeline) -> set[str]:
    """Return the names of the indexes that were built for a pipeline within NEW_FOR."""
    if not index_build.readable(connection):
        return set()
    return {
        build.index_name
        for build in index_build.list_builds(connection, pipeline=pipeline.name)
        if build.state == "done" and build.index_name and build.ended_at and build.now - build.ended_at < NEW_FOR
    }


def wait_for_build(database: Database, build_id: int, *, carry_out: bool, look: Look) -> IndexBuild:
    """Wait until a build has ended, and return it.

    carry_out: build it in this process if no other does, and this role may.
    look: called with the build every second or so.
    """
    while True:
        build = _find(database, build_id)
        look(IndexBuild.of(build))
        if not build.unfinished:
            return IndexBuild.of(build)
        mine = carry_out and build.may_build and not build.held and why_it_waits(build) is None
        if not mine or not advance(database, build, look=lambda build: look(IndexBuild.of(build))):
            time.sleep(POLL_EVERY.total_seconds())


def _find(database: Database, build_id: int) -> Build:
    with database.transaction(read_only=True) as connection:
        build = index_build.find(connection, build_id)
    if build is None:
        raise Refused(f"build {build_id} doesn't exist", hint="pgvector-sync index builds")
    return build
