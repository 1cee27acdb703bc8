"""Events about draining the outbox into work."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, event


@event("drain", Level.DEBUG)
class OutboxDrained(Event):
    """Outbox events became work."""

    events: int
    rows: int


@event("sweep", Level.DEBUG)
class OrphansSwept(Event):
    """After a TRUNCATE: vectors without a row were removed."""

    pipeline: str
    removed: int


@event("parked", Level.WARNING)
class EventsParked(Event):
    """Outbox events with keys that can't become work became dead letters during a drain."""

    events: int
    error_class: str


@event("parked", Level.WARNING)
class EventParked(Event):
    """An outbox event with a key that can't become work became a dead letter."""

    event_id: int
    error_class: str
