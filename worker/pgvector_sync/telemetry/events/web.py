"""Events of `pgvector-sync serve`."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("serving")
class Serving(Event):
    """`serve` accepts requests at this address."""

    address: Words
    token: bool


@event("database_unavailable", Level.WARNING)
class NotReady(Event):
    """`serve` was asked whether it is ready, and isn't: Postgres can't be reached, or its schema differs."""

    reason: Words


@event("request_failed", Level.WARNING)
class RequestFailed(Event):
    """A request was answered with a status of 500 or more. `route` is the pattern of its path."""

    route: Words | None
    status: int
    sqlstate: str | None


@event("request_failed", Level.ERROR)
class RequestBroke(Event):
    """An unexpected exception in a request, which was answered with the status 500."""

    route: Words | None
    error: BaseException
