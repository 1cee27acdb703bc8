"""Celery's scheduler without a file, which answers `pgvector-sync probe beat`."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from celery import beat

from pgvector_sync.dispatch.messages import TICK
from pgvector_sync.engine.pulse import Listener, Pulse
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import RedisUnavailable

TURN_LIMIT = timedelta(minutes=2)
"""The loop turns at least every ten seconds, and during an outage of Redis at least every half minute."""


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Beat is alive as long as this loop turns, and ready if its last tick has reached Redis."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._pulse = Pulse("beat", f"beat@{socket.gethostname()}", limit=TURN_LIMIT, needs=("Redis",))
        self._listening: ExitStack | None = None
        super().__init__(*arguments, **options)

    def tick(self, *arguments: Any, **options: Any) -> Any:
        """Send what is due; return how many seconds to wait."""
        if self._listening is None:  # Celery also creates schedulers that it never runs
            self._listening = ExitStack()
            self._listening.enter_context(Listener(self._pulse))
        self._pulse.beat()
        interval = super().tick(*arguments, **options)
        failed = self.app.tasks[TICK].failed_with
        self._pulse.judge("Redis", None if failed is None else f"out of reach ({failed.__name__})")
        return interval

    def close(self) -> None:
        """End with beat."""
        if self._listening is not None:
            self._listening.close()
        super().close()

    def _ensure_connected(self) -> Any:
        def on_failure(error: BaseException, _interval: float) -> None:
            emit(RedisUnavailable(error=type(error)))
            self._pulse.beat()  # it isn't hung: it tries again and again
            self._pulse.judge("Redis", f"out of reach ({type(error).__name__})")

        return self.connection.ensure_connection(on_failure, self.app.conf.broker_connection_max_retries)
