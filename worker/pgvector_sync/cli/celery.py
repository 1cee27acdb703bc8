"""`worker` and `beat`: thin over Celery's own commands."""

from __future__ import annotations

from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.database import begin, connect
from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import limits, load_settings
from pgvector_sync.store.grants import require_sole_author
from pgvector_sync.store.migrations import check_schema

QUEUES = ("live", "bulk", "maintenance")
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    app.command(context_settings=_PASS_ON)(worker)
    app.command(context_settings=_PASS_ON)(beat)


def worker(
    context: typer.Context,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Batches at once.")] = 2,
    pool: Annotated[str, typer.Option("--pool", "-P", help="prefork or threads.")] = "prefork",
    queues: Annotated[str, typer.Option("--queues", "-Q", help="Which queues to serve.")] = ",".join(QUEUES),
) -> None:
    """Start a worker: relay, and batches of all queues. Further options are Celery's own."""
    if pool not in ("prefork", "threads", "solo"):
        raise ConfigError(f"{pool} is not a pool for this work", where="--pool", hint="use prefork or threads")
    unknown = set(queues.split(",")) - set(QUEUES)
    if unknown:
        raise ConfigError(
            f"there is no queue {', '.join(sorted(unknown))}",
            where="--queues",
            hint=f"there is {', '.join(QUEUES)}",
        )
    _check()
    from pgvector_sync.dispatch.app import app

    code = app.start(
        ["--quiet", "worker", "--concurrency", str(concurrency), "--pool", pool, "--queues", queues,
         *context.args]
    )  # fmt: skip
    raise typer.Exit(code or 0)


def beat(context: typer.Context) -> None:
    """Start the scheduler. Two of them do no harm. Further options are Celery's own."""
    _check()
    from pgvector_sync.dispatch.app import app

    raise typer.Exit(app.start(["--quiet", "beat", *context.args]) or 0)


def _check() -> None:
    """A user's mistake is said before Celery starts, in one line. Raises ConfigError, MigrationRefused."""
    from pgvector_sync.dispatch.broker import broker_settings, check_redis

    environment.use_embedded_if_running()
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
