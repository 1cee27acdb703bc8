"""The Celery app: `celery -A pgvector_sync.celery_app worker` and `beat`.

Celery only rings: attempts, back-off and leases live in Postgres, so its retries are off, a lost message is made
up for by the next poll, and a task that runs twice writes once.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from celery import Celery, signals
from kombu import Exchange, Queue
from kombu.transport import redis as redis_transport

from pgvector_sync.bootstrap import close_process_runtime
from pgvector_sync.doorbell import MAINTENANCE, TICK
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Lane
from pgvector_sync.relay import RelayStep
from pgvector_sync.settings import Settings, load_settings
from pgvector_sync.telemetry import Event, configure_logging, log

TICK_SECONDS = 10.0
SOFT_SHUTDOWN_SECONDS = 45.0
"""Longer than one provider call (30 s); containers are given 60 s to stop."""
LONGEST_TASK_SECONDS = 110

# A doorbell that is lost is rung again by the relay. Where Redis goes away while a task runs, kombu would put its
# message back, and acknowledge it later, by the connection that is gone, and either error ends the worker: it is
# neither put back nor kept until it is acknowledged (`ack_emulation`).
redis_transport.Channel.do_restore = False


def _give_up(error: ConfigError) -> NoReturn:
    """`celery -A` would print a stack trace for it."""
    sys.stderr.write(f"pgvector-sync: {error}\n" + (f"  {error.hint}\n" if error.hint else ""))
    sys.exit(error.exit_code)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Everything that differs from Celery's defaults. Raises ConfigError where there is no broker."""
    return {
        "broker_url": settings.broker(),
        "imports": ["pgvector_sync.tasks"],
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_time_limit": LONGEST_TASK_SECONDS,
        "task_soft_time_limit": LONGEST_TASK_SECONDS - 10,
        "task_create_missing_queues": False,
        "task_default_queue": MAINTENANCE,
        "task_queues": [
            Queue(name, Exchange(name, type="direct"), routing_key=name)
            for name in (Lane.LIVE.value, Lane.BULK.value, MAINTENANCE)
        ],
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_SECONDS,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "ack_emulation": False,
            "queue_order_strategy": "priority",  # in the order of task_queues: live first
            "priority_steps": [0],
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }
        if settings.broker().startswith(("redis", "valkey"))
        else {},
        "beat_scheduler": "pgvector_sync.beat:BoundedScheduler",
        "beat_schedule": {
            "tick": {"task": TICK, "schedule": TICK_SECONDS, "options": {"queue": MAINTENANCE, "expires": 30}}
        },
    }


def make_app() -> Celery:
    """The app for this environment. Raises ConfigError."""
    made = Celery("pgvector_sync", set_as_current=False)
    made.config_from_object(celery_settings(load_settings()))
    made.steps["worker"].add(RelayStep)
    return made


@signals.celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _require_settings(**_: Any) -> None:
    settings = load_settings()
    try:
        settings.database()
        settings.redis()
    except ConfigError as error:
        _give_up(error)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _configure_logging(**_: Any) -> None:
    configure_logging(load_settings())


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _import_before_the_fork(**_: Any) -> None:
    """The SDK takes a second to import: once in the parent, not in each child's first batch."""
    import pgvector_sync.embedding.openai_compatible  # noqa: F401


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _say_ready(sender: Any, **_: Any) -> None:
    log.info(Event.WORKER_READY, hostname=sender.hostname)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _close_runtime(**_: Any) -> None:
    close_process_runtime()


try:
    app = make_app()
except ConfigError as error:
    _give_up(error)
