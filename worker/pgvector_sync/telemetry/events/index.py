"""Events about builds of vector indexes."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("index_build_requested")
class IndexBuildRequested(Event):
    """The file declares an index that the target doesn't have."""

    pipeline: str
    build: int


@event("index_build_postponed", Level.WARNING)
class IndexBuildPostponed(Event):
    """A build couldn't be carried out at the moment; it is tried again."""

    pipeline: str
    build: int
    reason: Words


@event("index_build_started")
class IndexBuildStarted(Event):
    """An index is being built."""

    pipeline: str
    build: int
    attempt: int


@event("index_built")
class IndexBuilt(Event):
    """An index is complete and has its name."""

    pipeline: str
    build: int
    index: str


@event("index_build_retried", Level.WARNING)
class IndexBuildRetried(Event):
    """An attempt has failed and left nothing behind; the index is built again."""

    pipeline: str
    build: int
    reason: Words


@event("index_build_failed", Level.ERROR)
class IndexBuildFailed(Event):
    """A build was given up; `index builds` says why."""

    pipeline: str
    build: int
    reason: Words


@event("index_build_interrupted", Level.WARNING)
class IndexBuildInterrupted(Event):
    """The connection of a build was lost; the server goes on, and the job continues from what it finds."""

    pipeline: str
    build: int
    sqlstate: str | None
