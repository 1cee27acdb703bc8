"""`worker` and `beat`. Only these commands import Celery, so that all others start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.interrupts import Interrupts

QUEUES = "live,maintenance,bulk"
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait for a database that can't be reached or has no schema yet, instead of exiting.",
    ),
]
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
    wait: Wait = False,
) -> None:
    """Start a worker, which embeds rows and takes part in the relay. Other options are passed on to Celery."""
    from pgvector_sync.dispatch import command

    command.require_options(pool, queues)
    _require_usable("worker", wait=wait)
    raise typer.Exit(command.run_worker(concurrency, pool, queues, context.args))


def beat(context: typer.Context, wait: Wait = False) -> None:
    """Start the scheduler. Running several is harmless. Other options are passed on to Celery."""
    from pgvector_sync.dispatch import command

    _require_usable("beat", wait=wait)
    raise typer.Exit(command.run_beat(context.args))


def _require_usable(role: str, *, wait: bool) -> None:
    from pgvector_sync.dispatch import command

    environment.use_embedded_if_running()
    try:
        # Celery hasn't installed its handlers yet, and a process without any ignores SIGTERM if it is PID 1.
        with Interrupts():
            command.require_usable(role, wait=wait)
    except KeyboardInterrupt:
        raise typer.Exit from None  # asked to stop, as a running worker ends with 0
