"""Starts and stops, with a Celery worker that serves our queues: checks, time limits and the relay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import bootsteps, signals
from celery.exceptions import WorkerShutdown
from kombu.serialization import prepare_accept_content

from pgvector_sync.dispatch.broker import check_redis
from pgvector_sync.dispatch.doorbell import open_doorbell
from pgvector_sync.dispatch.messages import TASKS
from pgvector_sync.dispatch.queues import Queues, queues_of
from pgvector_sync.dispatch.relay import Relay
from pgvector_sync.embedding import dialects
from pgvector_sync.embedding.local_models.cores import share_cores
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Lane
from pgvector_sync.runtime.bootstrap import close_process_runtime, expect_batches
from pgvector_sync.settings import Settings, limits, load_settings
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.process import WorkerMisconfigured, WorkerReady


def _log_ready(sender: Any, **_: Any) -> None:
    emit(WorkerReady(hostname=sender.hostname))


def _close_runtime(**_: Any) -> None:
    close_process_runtime()


def _require_json(app: Any) -> None:
    """Raise ConfigError if an application's app would discard our messages."""
    if "application/json" not in prepare_accept_content(app.conf.accept_content):
        raise ConfigError(
            "this Celery app doesn't accept JSON, in which pgvector-sync's messages are written",
            where="accept_content",
            hint="add 'json' to the app's accept_content",
        )


class RelayStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Runs the relay in the parent process, after the fork of the pool: no child inherits its connections."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._relay: Relay | None = None
        served = set(parent.app.amqp.queues.consume_from)
        queues = queues_of(parent.app) or Queues()
        self._is_ours = not served.isdisjoint(queues.all)
        """Whether the worker serves any of our queues. If not, this step does nothing."""
        self._serves_a_lane = not served.isdisjoint(map(queues.of, Lane))
        if self._is_ours:
            # importing the SDK takes a second: once in the parent, not in the first batch of each child
            dialects.preload()
            # once before the fork, and with autoscaling for the most children that there may be
            most = max(int(parent.concurrency), int(getattr(parent, "max_concurrency", None) or 0))
            share_cores(most)
            expect_batches(most)
            signals.worker_ready.connect(_log_ready)
            signals.worker_process_shutdown.connect(_close_runtime)

    def start(self, parent: Any) -> None:
        if not self._is_ours:
            return
        try:
            _require_json(parent.app)
            settings = load_settings()
            settings.database()
            limits.require(settings)
            check_redis(settings)
            doorbell = open_doorbell(parent.app)
        except ConfigError as error:
            emit(WorkerMisconfigured(error=Words(str(error)), hint=Words(error.hint) if error.hint else None))
            raise WorkerShutdown(error.exit_code) from None
        self._limit_tasks(parent.app, settings)
        slots = int(parent.concurrency) if self._serves_a_lane else 0
        pool = parent.pool

        def children() -> Iterable[int]:
            # only prefork has children; in a threads pool, this process holds the leases
            return tuple(pool.info.get("processes", ()))

        self._relay = Relay(doorbell, parent.hostname, slots, children)
        self._relay.start()

    def _limit_tasks(self, app: Any, settings: Settings) -> None:
        """Set our time limits instead of the app's or the command line's: a batch must end by its deadline."""
        for name in TASKS:
            app.tasks[name].soft_time_limit = limits.soft_task_limit(settings).total_seconds()
            app.tasks[name].time_limit = limits.hard_task_limit(settings).total_seconds()

    def stop(self, _parent: Any) -> None:
        if self._relay is not None:
            self._relay.stop()
            self._relay = None

    def terminate(self, parent: Any) -> None:
        self.stop(parent)
