"""The queues of a Celery app: their names and their lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.app.routes import Router
from kombu.exceptions import OperationalError as BrokerError

from pgvector_sync.model import Lane
from pgvector_sync.redis_client import MALFORMED_REPLY

MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Queues:
    """The names of our queues in a Celery app. The prefix separates them from the app's own queues."""

    prefix: str = ""

    def of(self, lane: Lane) -> str:
        """Return the queue of a lane."""
        return f"{self.prefix}{lane.value}"

    @property
    def maintenance(self) -> str:
        return f"{self.prefix}{MAINTENANCE}"

    @property
    def all(self) -> tuple[str, ...]:
        """All queues, in the order in which they are served.

        A backlog of the bulk lane may keep every slot busy for days. Maintenance doesn't wait for its end.
        """
        return self.of(Lane.LIVE), self.maintenance, self.of(Lane.BULK)


def attach_queues(app: Celery, queues: Queues) -> None:
    """Store the queues on an app, for `queues_of`."""
    app.pgvector_sync_queues = queues


def queues_of(app: Celery) -> Queues | None:
    """Return our queues in an app, None if it hasn't registered our tasks."""
    queues: Queues | None = getattr(app, "pgvector_sync_queues", None)
    return queues


def router_of(app: Celery) -> Router:
    """Return the router for our messages. The app's routes may send them elsewhere, or fail for unknown tasks."""
    return Router(routes=(), queues=app.amqp.queues, app=app)


def queue_depth(app: Celery, queue: str) -> int:
    """Return the number of messages in a queue. Raises errors of kombu and redis-py if the broker is down.

    Uses a connection of the app's pool, since opening one takes longer than everything else a bell needs. If the
    broker has closed it, the pool opens another.

    Declares the queue, as sending to it does. To ask only whether it exists (`passive`) would ignore an app's
    `global_keyprefix`: kombu doesn't prefix EXISTS.
    """

    def count(*, channel: Any) -> int:
        return int(app.amqp.queues[queue].bind(channel).queue_declare().message_count)

    with app.connection_or_acquire() as connection:
        try:
            depth, _ = connection.autoretry(count, max_retries=1, interval_start=0, interval_step=0)()
        except MALFORMED_REPLY as error:
            raise BrokerError(f"unexpected reply from the broker ({type(error).__name__})") from None
    return int(depth)
