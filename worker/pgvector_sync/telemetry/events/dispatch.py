"""Messages, the relay and periodic jobs."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("message_refused", Level.WARNING)
class MessageDropped(Event):
    """A message that isn't one of our tasks with its arguments was dropped, or what it asks for was refused."""

    reason: Words


@event("message_refused", Level.WARNING)
class MessagesDropped(Event):
    """Messages in our queues that aren't our tasks with their arguments were dropped."""

    reason: Words
    messages: int


@event("key_replaced", Level.WARNING)
class QueueKeyDeleted(Event):
    """The key of one of our queues in Redis held something other than messages, and was deleted."""

    queue: str


@event("relay_elected")
class RelayElected(Event):
    """From now on, this worker polls the outbox."""


@event("relay_lost")
class RelayLost(Event):
    """Another worker polls the outbox, or Redis has forgotten which one does."""


@event("relay_failed", Level.ERROR)
class RelayFailed(Event):
    """The relay met an unexpected exception; it continues after a second."""

    error: BaseException


@event("job_failed", Level.ERROR)
class JobFailed(Event):
    """A periodic job met an unexpected exception; it runs again when it is next due."""

    job: str
    error: BaseException


@event("job_busy", Level.DEBUG)
class JobBusy(Event):
    """Other transactions' locks were in the way of a periodic job; it runs again when it is next due."""

    job: str
