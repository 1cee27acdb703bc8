"""The list of commands. A command's module is imported when the command is used, so that each starts quickly."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_group

from pgvector_sync.cli import flags

COMMANDS = (
    (
        "init",
        "init",
        "Look at the database, read-only, and propose a pipeline for a table, as a commented file.",
    ),
    ("migrate", "apply", "Create or upgrade the schema pgvector_sync. Several processes can run this at once."),
    (
        "apply",
        "apply",
        "Make the database match the file: create or change pipelines, triggers and targets, and start backfills.",
    ),
    (
        "remove",
        "apply",
        "Remove a pipeline and everything it created: triggers, functions, waiting work and vectors.",
    ),
    (
        "worker",
        "celery",
        "Start a worker, which embeds rows and takes part in the relay. Other options are passed on to Celery.",
    ),
    ("beat", "celery", "Start the scheduler. Running several is harmless. Other options are passed on to Celery."),
    ("sync", "sync", "Drain, backfill and embed in this process, without Celery or Redis."),
    (
        "status",
        "state",
        "Show one line per pipeline: how many rows are fresh, waiting, in flight or dead, and why rows wait.",
    ),
    (
        "health",
        "state",
        "Check that changes are being embedded. Exits 0 if so, 1 if not, and 2 for an invalid configuration.",
    ),
    (
        "probe",
        "state",
        "Ask a worker, beat or sync on this machine whether it is ready. Exits 0 if so, and 1 if not.",
    ),
    ("pause", "state", "Stop embedding a pipeline. Changes are still captured and wait."),
    ("resume", "state", "End a pause, a cool-down or `misconfigured`."),
    (
        "reembed",
        "reembed",
        "Check rows again in the bulk lane and embed those whose vector is out of date, or all with --force.",
    ),
    (
        "reconcile",
        "reconcile",
        "Compare every row of the source with the target, and enqueue drifted rows in the bulk lane.",
    ),
    ("search", "search", "Embed a query and show the nearest rows."),
    (
        "doctor",
        "doctor",
        "Check the server, grants, triggers, providers and workers, and say what to do. Exits 1 on an error.",
    ),
    (
        "serve",
        "serve",
        "Serve metrics, probes and the status page over HTTP, read-only. PGVECTOR_SYNC_SERVE_TOKEN sets a token.",
    ),
    ("up", "up", "Run Postgres, Valkey, a worker and a beat in this terminal, until Ctrl-C."),
    (
        "demo",
        "demo",
        "Sync the docstrings of Python's standard library: real text and processes, no network, no API key.",
    ),
    (
        "capacity",
        "capacity",
        "Predict table, index, memory, WAL, build time and cost at another number of rows, per storage type.",
    ),
    ("index", "index", "Choose, build and measure the vector indexes of each target."),
    ("runs", "runs", "List, show or cancel runs: backfills, re-embeds and reconciliations."),
    (
        "dead-letters",
        "dead_letters",
        "List, requeue or discard dead letters: rows that can't be embedded as they are.",
    ),
    (
        "provider",
        "provider",
        "Find out what a provider's endpoint can do, and which settings follow.",
    ),
)
"""Each command's name, the module with its `register`, and its help: the first paragraph of its docstring."""


class Listed(TyperCommand):
    """A command that isn't imported. It is what `--help` and the suggestion of a similar name need."""

    def __init__(self, name: str, module: str, help_line: str) -> None:
        super().__init__(name, help=help_line)
        self._module = module

    def load(self) -> Any:
        """Import the module, and return the command itself."""
        registered = typer.Typer()
        import_module(f"pgvector_sync.cli.{self._module}").register(registered)
        return get_group(registered).commands[self.name or ""]


class Group(flags.Group):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in COMMANDS:
            self.add_command(Listed(*command))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is run or completed, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, Listed):
            command = command.load()
            flags.show_as_flags(command, ctx)
        return name, command, rest
