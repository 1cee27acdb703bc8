"""Adds our tasks, queues, relay and beat entry to a Celery app: our own, or an application's.

Nothing of the app is read or changed before it has configured itself, and what belongs to the application
(logging, its queues and settings, the way it speaks to its broker) stays as it is.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from kombu import Exchange, Queue

from pgvector_sync import tasks
from pgvector_sync.bootstrap import close_process_runtime
from pgvector_sync.doorbell import TICK, Queues, attach_queues, queues_of
from pgvector_sync.errors import Refused
from pgvector_sync.relay import RelayStep
from pgvector_sync.telemetry import Event, log


def register(app: Celery, *, prefix: str) -> None:
    """See `pgvector_sync.register`."""
    queues = Queues(prefix)
    before = queues_of(app)
    if before is not None:
        if before != queues:
            raise Refused(
                f"pgvector-sync is already registered with this app, with the prefix {before.prefix!r}",
                hint="call pgvector_sync.register(app) once",
            )
        return
    attach_queues(app, queues)
    tasks.add_to(app, queues)
    app.steps["worker"].add(RelayStep)
    app.on_after_finalize.connect(_add_to_settings)
    signals.worker_init.connect(_import_before_the_fork)
    signals.worker_ready.connect(_log_ready)
    signals.worker_process_shutdown.connect(_close_runtime)


def _add_to_settings(sender: Celery, **_: Any) -> None:
    """Our queues and our beat entry, beside the app's own.

    A worker without `-Q` serves our queues as well, one with `-Q` those that it names.
    """
    queues = queues_of(sender) or Queues()
    known = sender.amqp.queues
    for name in queues.all:
        if name not in known:
            known.select_add(Queue(name, Exchange(name, type="direct"), routing_key=name))
    options = {"queue": queues.maintenance, "expires": tasks.TICK_EXPIRES_SECONDS}
    sender.add_periodic_task(tasks.TICK_SECONDS, sender.signature(TICK), name=TICK, **options)


def _is_registered(app: Celery) -> bool:
    return queues_of(app) is not None


def _import_before_the_fork(sender: Any, **_: Any) -> None:
    """The SDK takes a second to import: once in the parent, not in each child's first batch."""
    if _is_registered(sender.app):
        import pgvector_sync.embedding.openai_compatible  # noqa: F401


def _log_ready(sender: Any, **_: Any) -> None:
    if _is_registered(sender.app):
        log.info(Event.WORKER_READY, hostname=sender.hostname)


def _close_runtime(**_: Any) -> None:
    close_process_runtime()
