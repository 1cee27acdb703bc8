"""The commands `worker` and `beat`: Celery's own, started after the configuration has been checked."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector_sync.database import begin, connect
from pgvector_sync.dispatch.app import QUEUES, app
from pgvector_sync.dispatch.broker import broker_settings, check_redis
from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import limits, load_settings
from pgvector_sync.store.grants import require_sole_author
from pgvector_sync.store.migrations import check_schema

POOLS = ("prefork", "threads", "solo")


def require_options(pool: str, queues: str) -> None:
    """Raise ConfigError for a pool or a queue that isn't supported."""
    if pool not in POOLS:
        raise ConfigError(f"unsupported pool: {pool}", where="--pool", hint="use prefork or threads")
    unknown = set(queues.split(",")) - set(QUEUES.all)
    if unknown:
        raise ConfigError(
            f"unknown queue: {', '.join(sorted(unknown))}",
            where="--queues",
            hint=f"known queues: {', '.join(QUEUES.all)}",
        )


def run_worker(concurrency: int, pool: str, queues: str, celery_options: Sequence[str]) -> int:
    """Run a worker until it is stopped; return its exit code. `celery_options` are passed to Celery's command."""
    options = ["--concurrency", str(concurrency), "--pool", pool, "--queues", queues, *celery_options]
    return _run("worker", options)


def run_beat(celery_options: Sequence[str]) -> int:
    """Run the scheduler until it is stopped; return its exit code.

    `celery_options` are passed to Celery's command.
    """
    return _run("beat", celery_options)


def _run(command: str, options: Sequence[str]) -> int:
    _check()
    return int(app.start(["--quiet", command, *options]) or 0)


def _check() -> None:
    """Check the configuration before Celery starts. Raises ConfigError or Refused."""
    settings = load_settings()
    limits.require(settings)
    settings.redis()
    broker_settings(settings)
    check_redis(settings)
    with (
        connect(settings.database()) as connection,
        begin(connection, lock_timeout=settings.lock_timeout, read_only=True),
    ):
        check_schema(connection)
        require_sole_author(connection)
