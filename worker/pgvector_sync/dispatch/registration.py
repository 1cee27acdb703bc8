"""Adds our tasks, queues, relay and beat entry to a Celery app: our own, or an application's.

Nothing of the app is read or changed before it has configured itself. What belongs to the application (logging,
its queues and settings, its broker) isn't changed.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from pgvector_sync.dispatch import tasks
from pgvector_sync.dispatch.messages import TICK
from pgvector_sync.dispatch.queues import Queues, attach_queues, queues_of
from pgvector_sync.dispatch.worker_step import RelayStep
from pgvector_sync.errors import Refused

__all__ = ["Celery", "register"]


def register(app: Celery, *, prefix: str) -> None:
    """Register our tasks with an app, see `pgvector_sync.register`."""
    queues = Queues(prefix)
    registered = queues_of(app)
    if registered is not None:
        if registered != queues:
            raise Refused(
                f"pgvector-sync is already registered with this app under the prefix {registered.prefix!r}",
                hint="call pgvector_sync.register(app) once",
            )
        return
    attach_queues(app, queues)
    tasks.add_to(app)
    app.steps["worker"].add(RelayStep)
    app.on_after_finalize.connect(_add_to_settings)


def _add_to_settings(sender: Celery, **_: Any) -> None:
    """Add our queues and our beat entry to those of the app.

    A worker without `-Q` serves our queues as well; one with `-Q` serves only the queues that it names.
    """
    queues = queues_of(sender) or Queues()
    existing = sender.amqp.queues
    for name in queues.all:
        if name not in existing:
            existing.select_add(Queue(name, Exchange("", type="direct"), routing_key=name))
    options = {"queue": queues.maintenance, "expires": tasks.TICK_LIFE.total_seconds()}
    sender.add_periodic_task(tasks.TICK_EVERY.total_seconds(), sender.signature(TICK), name=TICK, **options)
