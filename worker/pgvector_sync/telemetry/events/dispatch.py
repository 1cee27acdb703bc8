"""Events about messages, the relay and periodic jobs."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("message_refused", Level.WARNING)
class MessageDropped(Event):
    """A message was dropped because it isn't one of our tasks with valid arguments, or its request was refused."""

    reason: Words


@event("message_refused", Level.WARNING)
class MessagesDropped(Event):
    """Messages in our queues were dropped because they aren't our tasks with valid arguments."""

    reason: Words
    messages: int


@event("key_replaced", Level.WARNING)
class QueueKeyDeleted(Event):
    """The Redis key of one of our queues had the wrong type and was deleted."""

    queue: str


@event("relay_elected")
class RelayElected(Event):
    """From now on, this worker polls the outbox."""


@event("relay_lost")
class RelayLost(Event):
    """Another worker polls the outbox now, or Redis has lost the lock."""


@event("relay_failed", Level.ERROR)
class RelayFailed(Event):
    """An unexpected exception in the relay; it continues after a second."""

    error: BaseException


@event("job_failed", Level.ERROR)
class JobFailed(Event):
    """An unexpected exception in a periodic job; it runs again when it is next due."""

    job: str
    error: BaseException


@event("job_busy", Level.DEBUG)
class JobBusy(Event):
    """A periodic job was blocked by locks of other transactions; it runs again when it is next due."""

    job: str
