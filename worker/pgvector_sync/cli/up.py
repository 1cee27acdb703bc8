"""`up`: servers, a worker and a beat in one terminal."""

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
"""The beginning of a console log line: date, time, and the level, which is captured unless it is `info`."""

POLL_INTERVAL = timedelta(milliseconds=100)
"""How often the logs of the worker and the beat are read."""
COLOURS = {"worker": "cyan", "beat": "magenta"}
SERVER_NAMES = {"DATABASE_URL": "Postgres", "REDIS_URL": "Redis"}


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="The file to apply.", show_default="pgvector-sync.toml, if it exists"),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="The number of batches to process at the same time.")
    ] = 2,
    yes: apply.Yes = False,
) -> None:
    """Run Postgres, Valkey, a worker and a beat in this terminal, until Ctrl-C.

    Uses the servers in DATABASE_URL and REDIS_URL if they are set, and otherwise starts embedded ones, which keep
    their data in .pgvector-sync/.
    """
    if file is None and apply.CONFIG_FILE.exists():
        file = apply.CONFIG_FILE
    config = None if file is None else load_config(file)  # before anything is started
    running = Up(embedded.FOLDER).lock()
    with Interrupts() as interrupts:
        try:
            with _stopped(running, interrupts):
                if running.stop_leftovers():
                    say("stopped the worker and the beat left over from an `up` that was killed")
                _say_servers(use_own_or_start(running))
                _prepare(config, yes=yes)
                running.start_children(os.environ, folder=Path.cwd(), concurrency=concurrency)
                _stream(running)
        except KeyboardInterrupt:
            if interrupts.first is signal.SIGINT:
                raise
            raise typer.Exit from None  # SIGTERM and SIGHUP are regular ways to stop
        except ChildEnded as error:
            say_log(error.child)
            complain(str(error), f"see the whole log: {error.child.log}")
            raise typer.Exit(1) from None


@contextmanager
def _stopped(running: Up, interrupts: Interrupts) -> Iterator[None]:
    """Stop all processes on exit, whatever the reason."""
    try:
        yield
    finally:
        interrupts.ending()
        with suppress(OSError):  # the terminal may be gone
            say("\nstopping; press Ctrl-C again to stop at once")
        try:
            running.stop(hurried=lambda: interrupts.hurried)
        finally:
            running.unlock()
        with suppress(OSError):
            for child in running.children:
                if child.exit_code is not None:  # otherwise its log is from an earlier run
                    _show(child)


def _say_servers(used: Servers) -> None:
    for name, what in SERVER_NAMES.items():
        if name in used.own:
            out.print(f"using your {what} ({name})")
    if used.folder is not None:
        out.print(f"started embedded servers, which keep their data in {used.folder}/")
        for name, url in used.embedded.items():
            out.print(f"  export {name}={url}", style="cyan")


def _prepare(config: Config | None, *, yes: bool) -> None:
    """Migrate, apply the file, and print what the user can do next."""
    for migration in migrate(load_settings().database()):
        out.print(f"applied {migration.number:04d}_{migration.name}")
    if config is None:
        out.print("no pgvector-sync.toml in this folder: `pgvector-sync init` proposes one; then run `apply`")
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
        "  pgvector-sync serve    # the status page, in a browser",
        "press Ctrl-C to stop everything",
        "",
    ):
        out.print(line)


def _stream(running: Up) -> None:
    """Print the logs of the worker and the beat. Raises ChildEnded."""
    while True:
        for child in running.children:
            _show(child)
        running.check()
        time.sleep(POLL_INTERVAL.total_seconds())


def _show(child: Child) -> None:
    for line in child.new_lines():
        if line.strip():
            text = _shortened(line) if out.is_terminal else line
            out.print(Text.assemble((f"{child.name:<6} │ ", COLOURS[child.name]), text))


def _shortened(line: str) -> str:
    """Remove the date, microseconds, `info` and padding, to save space on a terminal."""
    return " ".join(_PREAMBLE.sub(r"\1 \2", line).split())


def say_log(child: Child) -> None:
    """Print the last lines of a child's log."""
    say(f"--- last lines of {child.log}")
    for line in child.last_lines():
        say(line)
