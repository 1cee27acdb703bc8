"""`worker` and `beat`. Celery is loaded only when one of them runs, so that other commands start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from pgvector_sync.cli import environment

QUEUES = "live,bulk,maintenance"
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    app.command(context_settings=_PASS_ON)(worker)
    app.command(context_settings=_PASS_ON)(beat)


def worker(
    context: typer.Context,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Batches at once.")] = 2,
    pool: Annotated[str, typer.Option("--pool", "-P", help="prefork or threads.")] = "prefork",
    queues: Annotated[str, typer.Option("--queues", "-Q", help="Which queues to serve.")] = QUEUES,
) -> None:
    """Start a worker: relay, and batches of all queues. Further options are Celery's own."""
    from pgvector_sync.dispatch import command

    command.require_options(pool, queues)
    environment.use_embedded_if_running()
    raise typer.Exit(command.run_worker(concurrency, pool, queues, context.args))


def beat(context: typer.Context) -> None:
    """Start the scheduler. Two of them do no harm. Further options are Celery's own."""
    from pgvector_sync.dispatch import command

    environment.use_embedded_if_running()
    raise typer.Exit(command.run_beat(context.args))
