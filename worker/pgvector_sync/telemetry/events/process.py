"""The process, and the servers that it depends on."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("worker_ready")
class WorkerReady(Event):
    """Pools are open and the first claim may come."""

    hostname: str


@event("misconfigured", Level.ERROR)
class WorkerMisconfigured(Event):
    """The worker's settings can't work; it ends."""

    error: Words
    hint: Words | None


@event("database_unavailable", Level.WARNING)
class DatabaseUnavailable(Event):
    """No connection to Postgres; tried again for as long as it takes."""

    sqlstate: str | None


@event("schema_missing", Level.ERROR)
class SchemaMissing(Event):
    """The database has no pgvector_sync schema yet."""

    hint: Words


@event("presence_failed", Level.WARNING)
class PresenceFailed(Event):
    """The database refused to record that this worker is alive; `status` may count one too few."""

    sqlstate: str | None


@event("redis_unavailable", Level.WARNING)
class RedisUnavailable(Event):
    """No connection to Redis; this costs latency and loses nothing (G7)."""

    error: type[BaseException]


@event("sink_failed", Level.ERROR)
class SinkFailed(Event):
    """A sink, such as a metric, raised an exception; the log and the other sinks were told."""

    sink: str
    error: type[BaseException]
