"""The scheduler of `celery beat`, which keeps no file and never lets its ticks pile up."""

from __future__ import annotations

from typing import Any

from celery.beat import Scheduler
from kombu.exceptions import OperationalError as BrokerError

from pgvector_sync.doorbell import MAINTENANCE, queue_depth
from pgvector_sync.telemetry import Event, log


class BoundedScheduler(Scheduler):  # type: ignore[misc]  # Celery has no types
    """Sends an entry only while its queue is empty: a day of beat without a worker leaves one tick."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        try:
            if queue_depth(self.app, entry.options.get("queue", MAINTENANCE)) > 0:
                return
        except (BrokerError, OSError) as error:
            log.warning(Event.REDIS_UNAVAILABLE, error=type(error).__name__)
            return
        super().apply_entry(entry, producer=producer)
