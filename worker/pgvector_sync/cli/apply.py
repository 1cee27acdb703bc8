"""`migrate`, `apply` and `remove`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.cli.console import out, say
from pgvector_sync.cli.estimates import in_short
from pgvector_sync.config import Config, load_config
from pgvector_sync.errors import Refused
from pgvector_sync.operate.apply import apply_plan
from pgvector_sync.operate.apply import remove as remove_pipeline
from pgvector_sync.operate.declared import check_declared
from pgvector_sync.operate.estimate import Estimate
from pgvector_sync.operate.plan import PipelinePlan, Plan, make_plan
from pgvector_sync.operate.planned import estimates_of
from pgvector_sync.operate.rekey import Rekey
from pgvector_sync.settings import load_settings
from pgvector_sync.store.migrations import migrate as migrate_schema
from pgvector_sync.sync.runtime import Runtime

Estimates = Mapping[str, Estimate | None]
CONFIG_FILE = Path("pgvector-sync.toml")
ConfigPath = Annotated[Path, typer.Option("-f", "--file", help="The file that declares providers and pipelines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before what costs or removes.")]


def register(app: typer.Typer) -> None:
    app.command()(migrate)
    app.command()(apply)
    app.command()(remove)


def migrate() -> None:
    """Create or upgrade the schema pgvector_sync; safe to run from many processes at once."""
    environment.use_embedded_if_running()
    applied = migrate_schema(load_settings().database())
    for migration in applied:
        out.print(f"applied {migration.number:04d}_{migration.name}", markup=False)
    if not applied:
        out.print("the schema is up to date")


def apply(
    file: ConfigPath = CONFIG_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Like --dry-run, but exit 1 if anything differs.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove pipelines that the file doesn't have, with their vectors.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Make the database match the file: pipelines, triggers, targets, first fill."""
    config = load_config(file)
    environment.use_embedded_if_running()
    warn(config)
    with environment.runtime() as runtime:
        with runtime.database.transaction(force_rollback=True) as connection:
            plan = make_plan(connection, config)
        estimates = estimates_of(runtime, plan)
        show(plan, estimates, prune=prune)
        pending = not plan.empty or (prune and bool(plan.unlisted))
        if dry_run or check:
            raise typer.Exit(1 if check and pending else 0)
        if not pending:
            return
        confirm(plan, estimates, prune=prune, yes=yes)
        carry_out(runtime, plan, prune=prune)


def carry_out(runtime: Runtime, plan: Plan, *, prune: bool = False) -> None:
    """Applies the plan and says what it has started."""
    fills = apply_plan(runtime.database, plan, say=say)
    for name in plan.unlisted if prune else ():
        remove_pipeline(runtime.database, name, keep_vectors=False, say=say)
    out.print("applied", style="bold green")
    if fills:
        out.print(
            f"started {len(fills)} fill{'s' if len(fills) > 1 else ''}: a worker or `pgvector-sync sync` carries "
            "it out; `pgvector-sync status --watch` shows how far it is",
            markup=False,
        )


def warn(config: Config) -> None:
    """Says what is missing in this environment. Raises ConfigError for what can't work in any."""
    for warning in check_declared(config, load_settings()):
        say(f"warning: {warning}")


def show(plan: Plan, estimates: Estimates, *, prune: bool = False) -> None:
    """The plan, for a person."""
    for provider in plan.providers:
        where = provider.base_url or "in this process"
        out.print(f"~ provider {provider.name}: {where}", markup=False)
    for rekey in plan.rekeys:
        _show_rekey(rekey)
    for made in plan.pipelines:
        _show_pipeline(made, estimates)
    for name in plan.unlisted:
        if prune:
            out.print(f"- pipeline {name}: removed, with its vectors", style="red", markup=False)
        else:
            out.print(
                f"  pipeline {name} is not in the file and left alone (--prune, or `pgvector-sync remove {name}`)",
                markup=False,
            )
    if plan.empty and not (prune and plan.unlisted):
        out.print("nothing to do: the database matches the file")


def _show_rekey(rekey: Rekey) -> None:
    out.print(f"~ source {rekey.source.label}: {', '.join(rekey.pipelines)}", style="yellow", markup=False)
    if rekey.words:
        out.print(f"    key       {', '.join(rekey.words)}", markup=False)
    for target in rekey.targets:
        out.print(f"    target    {target.words}", markup=False)
    out.print("    check     afterwards every row is compared with its vectors", markup=False)


def _show_pipeline(made: PipelinePlan, estimates: Estimates) -> None:
    target = f"{made.target[0]}.{made.target[1]}"
    for demand in made.demands:
        out.print(
            f"! pipeline {made.name}: {target}: {demand.words}; {demand.advice}", style="yellow", markup=False
        )
    if made.idle:
        return
    _show_declared(made, target)
    if made.take_over is not None:
        out.print(f"    target    {made.take_over.words}", markup=False)
    if made.recreate:
        out.print(f"    target    {target} was dropped and is created again", markup=False)
    if made.expressions.depends:
        out.print(f"    needs     {', '.join(made.expressions.depends)}", markup=False)
    if made.missing_triggers:
        out.print(f"    triggers  on {made.source.label}, for {', '.join(made.capture.tracked)}", markup=False)
    if made.refill:
        out.print(f"    fill      {made.pays}", markup=False)
    if made.name in estimates:
        out.print(f"    cost      {in_short(estimates[made.name])}", markup=False)
    if any(change.what == "model" for change in made.changes):
        out.print("    note      until the fill is done, old and new vectors stand side by side", markup=False)


def _show_declared(made: PipelinePlan, target: str) -> None:
    """What the file says of a new pipeline, or has changed of one."""
    if made.existing is None:
        out.print(f"+ pipeline {made.name}: {made.source.label} → {target}", style="green", markup=False)
        out.print(f"    key       {', '.join(column.name for column in made.source.key)}", markup=False)
        out.print(
            f"    text      {made.config.text_sql or ', '.join(made.config.text_columns or ())}", markup=False
        )
        if made.config.where:
            out.print(f"    where     {made.config.where}", markup=False)
        kind = f"{made.config.vector_type.value}({made.spec.dimensions}), {made.config.metric.value}"
        out.print(f"    embedding {made.provider.name}: {made.spec.model}, {kind}", markup=False)
    else:
        out.print(f"~ pipeline {made.name}: {made.source.label} → {target}", style="yellow", markup=False)
        for change in made.changes:
            out.print(f"    {change.what}: {change.before} → {change.after}", markup=False)


def confirm(plan: Plan, estimates: Estimates, *, yes: bool, prune: bool = False) -> None:
    """Asks before what costs or removes. Raises Refused without a terminal, and where the answer is no."""
    costly = [made for made in plan.pending if made.costs]
    removed = plan.unlisted if prune else []
    orphaning = [made.take_over for made in plan.pending if made.take_over is not None and made.take_over.removes]
    if yes or not (costly or removed or orphaning or any(rekey.words for rekey in plan.rekeys)):
        return
    what = [f"{rekey.source.label}: key {', '.join(rekey.words)}" for rekey in plan.rekeys if rekey.words]
    what += [target.words for rekey in plan.rekeys for target in rekey.targets if target.rewritten]
    what += [taken.words for taken in orphaning]
    what += [
        f"{made.name} {made.pays} at {made.provider.name}: {in_short(estimates[made.name])}" for made in costly
    ]
    what += [f"{name} and its vectors are removed" for name in removed]
    ask("; ".join(what))


def ask(what: str) -> None:
    """Asks on a terminal. Raises Refused without one, and where the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(f"refusing without --yes: {what}", hint="run it again with --yes, or on a terminal")
    try:
        agreed = typer.confirm(f"{what}. Go on?", err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):  # else it was Ctrl-D
            raise KeyboardInterrupt from None
        agreed = False
    if not agreed:
        raise Refused("nothing was changed")


def remove(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    keep_vectors: Annotated[bool, typer.Option("--keep-vectors", help="Leave the target table in place.")] = False,
    yes: Yes = False,
) -> None:
    """Take a pipeline off without a trace: triggers, functions, waiting work and, unless kept, its vectors."""
    with environment.runtime() as runtime:
        if not yes and not keep_vectors:
            ask(f"{pipeline} and all its vectors are removed")
        removed = remove_pipeline(runtime.database, pipeline, keep_vectors=keep_vectors, say=say)
    kept = f"; {removed.target_label} stays" if keep_vectors else f", with {removed.target_label}"
    out.print(f"removed {pipeline}{kept}", markup=False)
