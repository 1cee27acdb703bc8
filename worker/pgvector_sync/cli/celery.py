"""`worker` and `beat`. Only these commands import Celery, so that all others start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from pgvector_sync.cli import environment

QUEUES = "live,bulk,maintenance"
_PASS_ON_TO_CELERY = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    app.command(context_settings=_PASS_ON_TO_CELERY)(worker)
    app.command(context_settings=_PASS_ON_TO_CELERY)(beat)


def worker(
    context: typer.Context,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="The number of batches to process at the same time.")
    ] = 2,
    pool: Annotated[str, typer.Option("--pool", "-P", help="The kind of pool: prefork or threads.")] = "prefork",
    queues: Annotated[str, typer.Option("--queues", "-Q", help="The queues to consume.")] = QUEUES,
) -> None:
    """Start a worker, which embeds rows and takes part in the relay. Other options are passed on to Celery."""
    from pgvector_sync.dispatch import command

    command.require_options(pool, queues)
    environment.use_embedded_if_running()
    raise typer.Exit(command.run_worker(concurrency, pool, queues, context.args))


def beat(context: typer.Context) -> None:
    """Start the scheduler. Running several is harmless. Other options are passed on to Celery."""
    from pgvector_sync.dispatch import command

    environment.use_embedded_if_running()
    raise typer.Exit(command.run_beat(context.args))
