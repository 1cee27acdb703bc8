"""Events about batches, their leases, and the states that providers cause."""

from __future__ import annotations

from pgvector_sync.model import Lane
from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("write")
class BatchWritten(Event):
    """A batch has ended. Its vectors were written and their rows acknowledged in the same transaction."""

    pipeline: str
    lane: Lane
    claimed: int
    stored: int
    removed: int
    absent: int
    unchanged: int
    superseded: int
    parked: int
    released: int
    truncated: int


@event("parked", Level.WARNING)
class RowsParked(Event):
    """Rows became dead letters."""

    pipeline: str
    rows: int
    error_class: str


@event("parked", Level.WARNING)
class BatchParked(Event):
    """Rows of one batch became dead letters, for one or several reasons."""

    pipeline: str
    rows: int
    error_classes: tuple[str, ...]


@event("release_failed", Level.WARNING)
class ReleaseFailed(Event):
    """Rows couldn't be released. They will be once the database is back, or when their lease ends."""

    pipeline: str
    error: Words


@event("database_unavailable", Level.DEBUG)
class LeasesNotRenewed(Event):
    """Leases weren't renewed, since Postgres couldn't be reached. Tried again within a second."""

    sqlstate: str | None


@event("keeper_failed", Level.ERROR)
class KeeperFailed(Event):
    """Leases couldn't be renewed because of an unexpected exception."""

    error: BaseException


@event("leases_lost", Level.WARNING)
class LeasesLost(Event):
    """A worker has died or hasn't renewed its leases in time. Other workers take over its rows."""

    leases: int


@event("leases_lost", Level.WARNING)
class ProcessLeasesLost(Event):
    """A child process has died, or `sync` was stopped at once. Other processes take over its rows."""

    leases: int
    pid: int


@event("cool_down", Level.WARNING)
class PipelineCoolingDown(Event):
    """The provider is down or asked for a pause; the pipeline waits until its probe."""

    pipeline: str
    reason: Words


@event("misconfigured", Level.WARNING)
class PipelineMisconfigured(Event):
    """Key, model, quota or target is wrong; the pipeline waits for a correction or its probe."""

    pipeline: str
    reason: Words


@event("recovered")
class PipelineRecovered(Event):
    """A probe succeeded; the pipeline continues."""

    pipeline: str


@event("discarded")
class DeadLettersDiscarded(Event):
    """Dead letters older than `PGVECTOR_SYNC_DISCARD_DEAD_LETTERS_AFTER` were discarded."""

    rows: int
