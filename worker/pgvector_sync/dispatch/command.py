"""`worker` and `beat`: Celery's own commands, started once what a user may have got wrong is checked."""

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
    """Raises ConfigError for a pool or a queue that a worker can't have."""
    if pool not in POOLS:
        raise ConfigError(f"unsupported pool: {pool}", where="--pool", hint="use prefork or threads")
    unknown = set(queues.split(",")) - set(QUEUES.all)
    if unknown:
        raise ConfigError(
            f"unknown queue: {', '.join(sorted(unknown))}",
            where="--queues",
            hint=f"known queues: {', '.join(QUEUES.all)}",
        )


def run_worker(concurrency: int, pool: str, queues: str, more: Sequence[str]) -> int:
    """Run a worker until it is stopped; returns its exit code. `more` are options of Celery's command."""
    options = ["--concurrency", str(concurrency), "--pool", pool, "--queues", queues, *more]
    return _run("worker", options)


def run_beat(more: Sequence[str]) -> int:
    """Run the scheduler until it is stopped; returns its exit code. `more` are options of Celery's command."""
    return _run("beat", more)


def _run(command: str, options: Sequence[str]) -> int:
    _check()
    return int(app.start(["--quiet", command, *options]) or 0)


def _check() -> None:
    """Report a user's mistake in one line, before Celery starts. Raises ConfigError, MigrationRefused."""
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
