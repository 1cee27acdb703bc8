"""The queues of one Celery app: their names, and how many messages wait in one."""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery
from kombu.exceptions import ChannelError
from kombu.exceptions import OperationalError as BrokerError

from pgvector_sync.model import Lane
from pgvector_sync.redis_client import NOT_UNDERSTOOD

MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Queues:
    """The names of our queues in one Celery app, which may have others with such names."""

    prefix: str = ""

    def of(self, lane: Lane) -> str:
        return f"{self.prefix}{lane.value}"

    @property
    def maintenance(self) -> str:
        return f"{self.prefix}{MAINTENANCE}"

    @property
    def all(self) -> tuple[str, ...]:
        """In the order in which they are served."""
        return self.of(Lane.LIVE), self.of(Lane.BULK), self.maintenance


def attach_queues(app: Celery, queues: Queues) -> None:
    app.pgvector_sync_queues = queues


def queues_of(app: Celery) -> Queues | None:
    """None for an app that has not registered us."""
    found: Queues | None = getattr(app, "pgvector_sync_queues", None)
    return found


def queue_depth(app: Celery, queue: str) -> int:
    """Messages waiting in a queue. Raises what kombu and redis-py raise where the broker is away."""
    with app.connection_for_write() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # nobody has declared it yet
            return 0
        except NOT_UNDERSTOOD as error:
            raise BrokerError(f"unexpected reply from the broker ({type(error).__name__})") from None
