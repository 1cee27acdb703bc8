"""Our own Celery app: `celery -A pgvector_sync.celery_app worker` and `beat`.

Importing this module only creates the app. The environment is read when the app is first used. To run our tasks in
an app of your own, see `pgvector_sync.register`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import IO, Any

import click
from celery import Celery
from celery.app.log import Logging
from celery.apps.worker import Worker
from kombu import Exchange, Queue

from pgvector_sync.dispatch.broker import broker_settings
from pgvector_sync.dispatch.queues import Queues
from pgvector_sync.dispatch.registration import register
from pgvector_sync.errors import ConfigError
from pgvector_sync.runtime.garbage import spare_what_is_loaded
from pgvector_sync.settings import Settings, limits, load_settings
from pgvector_sync.telemetry import configure_logging
from pgvector_sync.telemetry.printable import printable

QUEUES = Queues()


class Unusable(click.ClickException):
    """A ConfigError for Celery's command line, which prints a stack trace for any other exception."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.hint = error.hint
        self.exit_code = error.exit_code  # type: ignore[misc]  # click reads it from the instance as well

    def show(self, file: IO[Any] | None = None) -> None:
        message = f"pgvector-sync: {self.message}\n" + (f"  {self.hint}\n" if self.hint else "")
        (file or sys.stderr).write(printable(message, lines=True))


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return all settings that differ from Celery's defaults. Raises ConfigError if there is no broker."""
    return broker_settings(settings) | {
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_time_limit": limits.hard_task_limit(settings).total_seconds(),
        "task_soft_time_limit": limits.soft_task_limit(settings).total_seconds(),
        "task_create_missing_queues": False,
        "task_default_queue": QUEUES.maintenance,
        "task_queues": [Queue(name, Exchange("", type="direct"), routing_key=name) for name in QUEUES.all],
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": limits.soft_shutdown(settings).total_seconds(),
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_redirect_stdouts": False,
        # remote control would let any program that can write to the broker stop every worker
        "worker_enable_remote_control": False,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "beat_scheduler": "pgvector_sync.dispatch.beat:Scheduler",
    }


class _Environment(Mapping[str, Any]):
    """The settings of this environment, read at the first access. Raises Unusable then if they are wrong."""

    @cached_property
    def _read(self) -> dict[str, Any]:
        try:
            settings = load_settings()
            limits.require(settings)
            return celery_settings(settings)
        except ConfigError as error:
            raise Unusable(error) from None

    def __getitem__(self, name: str) -> Any:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


class _Log(Logging):  # type: ignore[misc]  # Celery has no types
    """Configures logging as all our commands do."""

    def setup_logging_subsystem(self, *_: Any, **__: Any) -> bool:
        configure_logging(load_settings())
        return True


class _Worker(Worker):  # type: ignore[misc]
    """Ignores messages of other workers, and of programs that claim to be one."""

    def __init__(self, app: Any = None, hostname: str | None = None, **options: Any) -> None:
        super().__init__(app, hostname, **options | {"without_gossip": True, "without_mingle": True})
        spare_what_is_loaded()  # the steps have loaded all that batches need, and no child is forked yet


class _App(Celery):  # type: ignore[misc]
    log_cls = _Log

    @cached_property
    def Worker(self) -> Any:  # noqa: N802
        return self.subclass_with_self(_Worker)


app = _App("pgvector_sync", set_as_current=False)
app.config_from_object(_Environment())
register(app, prefix=QUEUES.prefix)
