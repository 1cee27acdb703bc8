"""The plan of `apply` for a person, and the question before it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import typer

from pgvector_sync.cli.console import indented, out
from pgvector_sync.cli.estimates import in_short
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.rekey import Rekey
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.errors import Refused
from pgvector_sync.runs.estimate import Estimate

Estimates = Mapping[str, Estimate | None]
"""By pipeline; None where its rows can't be read."""


def show(plan: Plan, estimates: Estimates, *, prune: bool = False) -> None:
    """The plan, for a person."""
    for provider in plan.providers:
        out.print(f"~ provider {provider.name}: {dialect_of(provider).place(provider)}")
    for rekey in plan.rekeys:
        _show_rekey(rekey)
    for made in plan.pipelines:
        _show_pipeline(made, estimates)
    for name in plan.unlisted:
        if prune:
            out.print(f"- pipeline {name}: removed, with its vectors", style="red")
        else:
            out.print(
                f"  pipeline {name} is not in the file and left alone (--prune, or `pgvector-sync remove {name}`)"
            )
    if plan.empty and not (prune and plan.unlisted):
        out.print("nothing to do: the database matches the file")


def _show_rekey(rekey: Rekey) -> None:
    out.print(f"~ source {rekey.source.label}: {', '.join(rekey.pipelines)}", style="yellow")
    if rekey.words:
        out.print(f"    key       {', '.join(rekey.words)}")
    for target in rekey.targets:
        out.print(f"    target    {target.words}")
    out.print("    check     afterwards every row is compared with its vectors")


def _show_new(made: PipelinePlan, target: str) -> None:
    out.print(f"+ pipeline {made.name}: {made.source.label} → {target}", style="green")
    out.print(f"    key       {', '.join(column.name for column in made.source.key)}")
    out.print(indented("    text      ", ", ".join(made.config.text_columns or [made.options.text])))
    if made.options.where:
        out.print(indented("    where     ", made.options.where))
    kind = f"{made.options.column_type}, {made.options.metric.value}"
    out.print(f"    embedding {made.provider.name}: {made.options.model}, {kind}")


def _show_pipeline(made: PipelinePlan, estimates: Estimates) -> None:
    target = f"{made.target[0]}.{made.target[1]}"
    for demand in made.demands:
        out.print(f"! pipeline {made.name}: {target}: {demand.words}; {demand.advice}", style="yellow")
    if made.idle:
        return
    if made.existing is None:
        _show_new(made, target)
    else:
        out.print(f"~ pipeline {made.name}: {made.source.label} → {target}", style="yellow")
        for change in made.changes:
            out.print(f"    {change.what}: {change.before} → {change.after}")
    for label, words in _details(made, target, estimates):
        out.print(f"    {label:<9} {words}")


def _details(made: PipelinePlan, target: str, estimates: Estimates) -> Iterator[tuple[str, str]]:
    if made.expressions.depends:
        yield "needs", ", ".join(map(str, made.expressions.depends))
    for function in made.untried:
        yield "note", f"{function} was not tried, for want of rows: a worker runs it with search_path = pg_catalog"
    if made.take_over is not None:
        yield "target", made.take_over.words
    if made.recreate:
        yield "target", f"{target} was dropped and is created again"
    if made.missing_triggers:
        yield "triggers", f"on {made.source.label}, for {', '.join(made.capture.tracked)}"
    if made.backfill:
        yield "backfill", made.backfill_words
    if made.name in estimates:
        yield "cost", in_short(estimates[made.name])
    if any(change.what == "model" for change in made.changes):
        yield "note", "until the backfill is done, old and new vectors stand side by side"


def confirm(plan: Plan, estimates: Estimates, *, yes: bool, prune: bool = False) -> None:
    """Asks before what costs or removes. Raises Refused without a terminal, and where the answer is no."""
    costly = [made for made in plan.pending if made.may_cost]
    removed = plan.unlisted if prune else []
    orphaning = [
        made.take_over for made in plan.pending if made.take_over is not None and made.take_over.removes_vectors
    ]
    if yes or not (costly or removed or orphaning or any(rekey.words for rekey in plan.rekeys)):
        return
    what = [f"{rekey.source.label}: key {', '.join(rekey.words)}" for rekey in plan.rekeys if rekey.words]
    what += [target.words for rekey in plan.rekeys for target in rekey.targets if target.rewritten]
    what += [taken.words for taken in orphaning]
    what += [
        f"{made.name} {made.backfill_words} at {made.provider.name}: {in_short(estimates[made.name])}"
        for made in costly
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
