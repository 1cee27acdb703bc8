"""`migrate`, `apply` and `remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, print_document, say
from pgvector_sync.cli.plan import ask, confirm, show
from pgvector_sync.client.documents import fields_of
from pgvector_sync.declare.apply import apply_plan
from pgvector_sync.declare.apply import remove as remove_pipeline
from pgvector_sync.declare.declared import check_declared
from pgvector_sync.declare.file import Config, load_config
from pgvector_sync.declare.plan import Plan
from pgvector_sync.declare.planned import closed_sources, estimates_of
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.declare.report import is_pending, report_of
from pgvector_sync.model.counted import counted
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import load_settings
from pgvector_sync.store.migrations import migrate as migrate_schema

CONFIG_FILE = Path("pgvector-sync.toml")
ConfigPath = Annotated[Path, typer.Option("-f", "--file", help="The file that declares providers and pipelines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before paying a provider or removing anything.")]


def register(app: typer.Typer) -> None:
    app.command()(migrate)
    app.command()(apply)
    app.command()(remove)


def migrate() -> None:
    """Create or upgrade the schema pgvector_sync. Several processes can run this at once."""
    environment.use_embedded_if_running()
    applied = migrate_schema(load_settings().database())
    for migration in applied:
        out.print(f"applied {migration.number:04d}_{migration.name}")
    if not applied:
        out.print("the schema is up to date")


def apply(
    file: ConfigPath = CONFIG_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan without changing anything.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Like --dry-run, but exit 1 if there is anything to change.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove pipelines that aren't in the file, and their vectors.")
    ] = False,
    yes: Yes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, see docs/json.md.")] = False,
) -> None:
    """Make the database match the file: create or change pipelines, triggers and targets, and start backfills."""
    config = load_config(file)
    environment.use_embedded_if_running()
    warn(config)
    with environment.runtime() as runtime:
        with runtime.database.transaction(force_rollback=True) as connection:
            plan = make_plan(connection, config)
            closed = closed_sources(connection, plan)
        for warning in closed:
            say(f"warning: {warning}")
        estimates = estimates_of(runtime, plan)
        if not as_json:
            show(plan, estimates, prune=prune)
        pending = is_pending(plan, prune=prune)
        applied = pending and not (dry_run or check)
        if applied:
            confirm(plan, estimates, prune=prune, yes=yes)
            backfills = carry_out(runtime, plan, prune=prune)
            if not as_json:
                say_applied(backfills)
    if as_json:
        print_document(fields_of(report_of(plan, estimates, prune=prune, applied=applied)))
    if check and pending:
        raise typer.Exit(1)


def carry_out(runtime: Runtime, plan: Plan, *, prune: bool = False) -> int:
    """Apply the plan and return the number of backfills started."""
    backfills = apply_plan(runtime.database, plan, say=say)
    for name in plan.unlisted if prune else ():
        remove_pipeline(runtime.database, name, keep_vectors=False, say=say)
    return len(backfills)


def say_applied(backfills: int) -> None:
    out.print("applied", style="bold green")
    if backfills:
        out.print(
            f"started {counted(backfills, 'backfill')}, carried out by a worker or "
            "`pgvector-sync sync`; show progress: pgvector-sync status --watch"
        )


def warn(config: Config) -> None:
    """Print what is missing in this environment. Raises ConfigError for what can't work in any environment."""
    for warning in check_declared(config, load_settings()):
        say(f"warning: {warning}")


def remove(
    pipeline: Annotated[str, typer.Argument(help="The pipeline to remove.")],
    keep_vectors: Annotated[
        bool, typer.Option("--keep-vectors", help="Keep the target table and its vectors.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove a pipeline and everything it created: triggers, functions, waiting work and vectors."""
    with environment.runtime() as runtime:
        if not yes and not keep_vectors:
            ask(f"this removes {pipeline} and all its vectors")
        removed = remove_pipeline(runtime.database, pipeline, keep_vectors=keep_vectors, say=say)
    target = f", kept {removed.target_label}" if keep_vectors else f" and {removed.target_label}"
    out.print(f"removed {pipeline}{target}")
