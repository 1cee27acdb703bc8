"""`up`: everything that a pipeline needs, in one terminal."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pgvector_sync.cli import apply, environment
from pgvector_sync.cli import plan as plans
from pgvector_sync.cli.console import complain, out, say
from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.declare.file import Config, load_config
from pgvector_sync.declare.planned import estimates_of
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.local import embedded
from pgvector_sync.local.children import Child
from pgvector_sync.local.servers import Servers, use_own_or_start
from pgvector_sync.local.up import ChildEnded, Up
from pgvector_sync.settings import load_settings
from pgvector_sync.store.migrations import migrate

_PREAMBLE = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d+Z \[(?:info|(\w+)) *\]")
"""Of a line of our console log: date, time, and the level where it isn't `info`."""

LOOK_EVERY = timedelta(milliseconds=100)
"""Seconds between two looks at what worker and beat have logged."""
COLOURS = {"worker": "cyan", "beat": "magenta"}
OWN = {"DATABASE_URL": "Postgres", "REDIS_URL": "Redis"}


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="The file to apply.", show_default="pgvector-sync.toml, if it is there"),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Batches at once.")] = 2,
    yes: apply.Yes = False,
) -> None:
    """Run Postgres, Valkey, a worker and a beat in this terminal, until Ctrl-C.

    DATABASE_URL and REDIS_URL are used where they are set; embedded servers, with their data in .pgvector-sync/,
    stand in for what isn't.
    """
    if file is None and apply.CONFIG_FILE.exists():
        file = apply.CONFIG_FILE
    config = None if file is None else load_config(file)  # before anything is started
    running = Up(embedded.FOLDER).take()
    with Interrupts() as interrupts:
        try:
            with _stopped(running, interrupts):
                if running.stop_leftovers():
                    say("stopped the worker and the beat of an `up` that was killed")
                _say_servers(use_own_or_start(running))
                _prepare(config, yes=yes)
                running.start_children(os.environ, folder=Path.cwd(), concurrency=concurrency)
                _stream(running)
        except KeyboardInterrupt:
            if interrupts.first is signal.SIGINT:
                raise
            raise typer.Exit from None  # asked to stop, and stopped
        except ChildEnded as error:
            say_log(error.child)
            complain(str(error), f"the whole log is {error.child.log}")
            raise typer.Exit(1) from None


@contextmanager
def _stopped(running: Up, interrupts: Interrupts) -> Iterator[None]:
    """Whatever happens inside, nothing runs afterwards."""
    try:
        yield
    finally:
        interrupts.ending()
        with suppress(OSError):  # the terminal may be gone
            say("\nstopping; Ctrl-C again to hurry")
        try:
            running.stop(hurried=lambda: interrupts.hurried)
        finally:
            running.let_go()
        with suppress(OSError):
            for child in running.children:
                if child.exit_code is not None:  # else what it logged is of an earlier time
                    _show(child)


def _say_servers(used: Servers) -> None:
    for name, what in OWN.items():
        if name in used.own:
            out.print(f"using your {what} ({name})")
    if used.folder is not None:
        out.print(f"embedded servers run, with their data in {used.folder}/")
        for name, url in used.embedded.items():
            out.print(f"  export {name}={url}", style="cyan")


def _prepare(config: Config | None, *, yes: bool) -> None:
    """Migrates and applies, and says what can be done now."""
    for migration in migrate(load_settings().database()):
        out.print(f"applied {migration.number:04d}_{migration.name}")
    if config is None:
        out.print("no pgvector-sync.toml here yet: write one, then run `pgvector-sync apply`")
    else:
        apply.warn(config)
        with environment.runtime() as runtime:
            with runtime.database.transaction(force_rollback=True) as connection:
                plan = make_plan(connection, config)
            estimates = estimates_of(runtime, plan)
            plans.show(plan, estimates)
            if not plan.empty:
                plans.confirm(plan, estimates, yes=yes)
                apply.say_applied(apply.carry_out(runtime, plan))
    for line in (
        "",
        "in a second terminal, in this folder:",
        "  pgvector-sync status --watch",
        "  pgvector-sync search PIPELINE QUERY",
        "Ctrl-C stops everything",
        "",
    ):
        out.print(line)


def _stream(running: Up) -> None:
    """Shows what worker and beat log. Raises ChildEnded."""
    while True:
        for child in running.children:
            _show(child)
        running.check()
        time.sleep(LOOK_EVERY.total_seconds())


def _show(child: Child) -> None:
    for line in child.new_lines():
        if line.strip():
            said = _shortened(line) if out.is_terminal else line
            out.print(Text.assemble((f"{child.name:<6} │ ", COLOURS[child.name]), said))


def _shortened(line: str) -> str:
    """Without date, microseconds, `info` and columns, for which a terminal has no room."""
    return " ".join(_PREAMBLE.sub(r"\1 \2", line).split())


def say_log(child: Child) -> None:
    """What a child has said last."""
    say(f"--- the end of {child.log}")
    for line in child.last_lines():
        say(line)
