"""The commands `worker` and `beat`: Celery's own, started once settings and database are usable."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from datetime import timedelta

from pgvector_sync.database import OUTAGE, begin, connect
from pgvector_sync.database.explain import explain
from pgvector_sync.dispatch.app import QUEUES, app
from pgvector_sync.dispatch.broker import broker_settings, check_redis
from pgvector_sync.engine.pulse import Listener, Pulse, turn_limit
from pgvector_sync.errors import ConfigError, Refused
from pgvector_sync.settings import Settings, limits, load_settings
from pgvector_sync.store.grants import require_sole_author
from pgvector_sync.store.migrations import check_schema
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.process import WaitingForDatabase

POOLS = ("prefork", "threads", "solo")
LOOK_AGAIN = timedelta(seconds=2)
"""The pause between two looks at a database that isn't usable yet."""


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


def require_usable(role: str, *, wait: bool) -> None:
    """Check the settings and the database of a worker or beat. Raises ConfigError for wrong settings.

    With `wait`, returns once the database can be reached and has the schema and grants that this program needs;
    otherwise raises Refused or psycopg.OperationalError if it doesn't.
    """
    settings = load_settings()
    limits.require(settings)
    settings.database()
    settings.redis()
    broker_settings(settings)
    check_redis(settings)
    try:
        _require_database(settings)
    except (Refused, *OUTAGE):
        if not wait:
            raise
    else:
        return
    pulse = Pulse(role, f"{role}@{socket.gethostname()}", limit=turn_limit(settings), needs=("Postgres",))
    with Listener(pulse):
        _wait(settings, pulse)


def _wait(settings: Settings, pulse: Pulse) -> None:
    logged = None
    while problem := _problem(settings):
        reason, hint = problem
        pulse.beat()
        pulse.judge("Postgres", reason)
        if reason != logged:
            emit(WaitingForDatabase(reason=Words(reason), hint=Words(hint) if hint else None))
            logged = reason
        time.sleep(LOOK_AGAIN.total_seconds())


def _problem(settings: Settings) -> tuple[str, str | None] | None:
    """Return why the database can't be used yet, and what to do; None if it can."""
    try:
        _require_database(settings)
    except Refused as refused:
        return str(refused), refused.hint
    except OUTAGE as error:
        return explain(error)
    return None


def _require_database(settings: Settings) -> None:
    with (
        connect(settings.database()) as connection,
        begin(connection, lock_timeout=settings.lock_timeout, read_only=True),
    ):
        check_schema(connection)
        require_sole_author(connection)


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
    return int(app.start(["--quiet", command, *options]) or 0)
