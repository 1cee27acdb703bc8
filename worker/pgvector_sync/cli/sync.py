"""`sync`: the work of relay, worker and beat in one process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Annotated

import psycopg
import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import complain, out, progress, say
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.engine import watch
from pgvector_sync.engine.loop import Loop, Progress
from pgvector_sync.engine.presence import present
from pgvector_sync.engine.pulse import Listener, Pulse, turn_limit
from pgvector_sync.errors import ConfigError
from pgvector_sync.model.counted import counted
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.status import PipelineStatus, nothing_to_wait_for, read_status, unfinished
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.garbage import spare_what_is_loaded
from pgvector_sync.runtime.keeper import lose_leases_of_process
from pgvector_sync.telemetry import configure_logging

OTHER_CONNECTIONS = 5
"""Connections besides one per batch: for a live batch, the turns, a run, the leases and the presence."""


def register(app: typer.Typer) -> None:
    app.command()(sync)


def sync(
    pipeline: Annotated[str | None, typer.Argument(help="Sync this pipeline only.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit when nothing is waiting any more.")] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0, help="With --once: the maximum number of seconds to run."),
    ] = 600.0,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=64,
            help="The number of batches in flight at once. A local model computes one at a time.",
        ),
    ] = 4,
) -> None:
    """Drain, backfill and embed in this process, without Celery or Redis."""
    with environment.runtime(working=True, max_connections=concurrency + OTHER_CONNECTIONS) as runtime:
        statuses = read_status(runtime.database, pipeline)
        if not statuses:
            raise ConfigError(
                "no pipeline is declared", hint="write pgvector-sync.toml, then run `pgvector-sync apply`"
            )
        watch.look_now(runtime.database)  # regardless of when it last ran
        name = f"sync@{socket.gethostname()}"
        pulse = Pulse("sync", name, limit=turn_limit(runtime.settings), needs=("Postgres",))
        with present(runtime.database, name, concurrency, pulse=pulse) as presence:
            loop = Loop(runtime, pipeline, concurrency=concurrency, on_look=presence.note_look)
            with _finishing(loop):
                if not once:
                    configure_logging(runtime.settings)  # the log is the output of a continuous sync
                    say("syncing until Ctrl-C")

                    def on_turn(done: Progress) -> None:
                        pulse.beat()
                        _spare_what_is_loaded(done)

                    with Listener(pulse):
                        loop.run(finished=lambda: False, on_turn=on_turn)
                    return
                _once(runtime, loop, pipeline, statuses, within=timedelta(seconds=timeout))


def _spare_what_is_loaded(done: Progress) -> None:
    if done.done:  # a batch has loaded all that the others need
        spare_what_is_loaded()


@contextmanager
def _finishing(loop: Loop) -> Iterator[None]:
    """At the end, wait for the batches in flight, which may have been paid for. A second Ctrl-C ends at once."""
    with Interrupts() as interrupts:
        try:
            yield
        finally:
            interrupts.ending()
            if count := len(loop.in_flight):
                batches = counted(count, "batch", "batches")
                say(f"\nfinishing {batches} in flight; press Ctrl-C to stop at once")
            loop.finish(hurried=lambda: interrupts.hurried)
            if interrupts.hurried:
                with suppress(psycopg.Error):  # else the leases expire
                    lose_leases_of_process(loop.runtime.database, os.getpid())


def _once(
    runtime: Runtime,
    loop: Loop,
    pipeline: str | None,
    statuses: list[PipelineStatus],
    *,
    within: timedelta,
) -> None:
    started = time.monotonic()
    total = sum(status.waiting + status.to_backfill for status in statuses)
    with progress("syncing", total or None) as bar:

        def on_turn(done: Progress) -> None:
            bar.reach(done.done)
            _spare_what_is_loaded(done)

        loop.run(
            finished=lambda: nothing_to_wait_for(runtime.database, pipeline, loop.tried),
            until=Deadline.after(within),
            on_turn=on_turn,
        )
        loop.finish()  # what is in flight when the time is over
    done, seconds = loop.progress, time.monotonic() - started
    out.print(
        f"{done.stored:,} embedded, {done.unchanged:,} unchanged, {done.removed:,} removed in {seconds:.1f} s"
    )
    remaining = read_status(runtime.database, pipeline)
    problems = [line for status in remaining for line in unfinished(status)]
    for line in problems:
        complain(line)
    if problems:
        raise typer.Exit(1)
