"""Events about a process and the servers that it depends on."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("worker_ready")
class WorkerReady(Event):
    """The worker has started and takes tasks."""

    hostname: str


@event("misconfigured", Level.ERROR)
class WorkerMisconfigured(Event):
    """The worker's settings are invalid; it stops."""

    error: Words
    hint: Words | None


@event("database_unavailable", Level.WARNING)
class DatabaseUnavailable(Event):
    """Postgres can't be reached; tried again until it can."""

    sqlstate: str | None


@event("schema_refused", Level.ERROR)
class SchemaRefused(Event):
    """The schema is missing, too old, or too new for this program, which waits; logged once per reason."""

    reason: Words
    hint: Words | None


@event("schema_fits")
class SchemaFits(Event):
    """The schema fits this program again, which goes on."""


@event("waiting_for_database", Level.WARNING)
class WaitingForDatabase(Event):
    """The database isn't usable yet. A worker or beat with `--wait` starts once it is; logged once per reason."""

    reason: Words
    hint: Words | None


@event("presence_failed", Level.WARNING)
class PresenceFailed(Event):
    """The database refused to record that this worker is alive; `status` may count one worker too few."""

    sqlstate: str | None


@event("probe_unavailable", Level.WARNING)
class ProbeUnavailable(Event):
    """`pgvector-sync probe` can't ask this process: no socket can be created in its temporary folder."""

    error: type[BaseException]


@event("redis_unavailable", Level.WARNING)
class RedisUnavailable(Event):
    """Redis can't be reached. This costs latency and loses nothing (G7)."""

    error: type[BaseException]


@event("sink_failed", Level.ERROR)
class SinkFailed(Event):
    """A sink, such as a metric, raised an exception. The log and the other sinks got the event."""

    sink: str
    error: type[BaseException]
