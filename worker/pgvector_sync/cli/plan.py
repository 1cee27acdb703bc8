"""How the plan of `apply` is printed, and the confirmation prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import typer

from pgvector_sync.cli.console import indented, out
from pgvector_sync.cli.estimates import in_short
from pgvector_sync.declare.index_options import notes_of_index
from pgvector_sync.declare.plan import PipelinePlan, Plan, ProviderPlan
from pgvector_sync.declare.rekey import Rekey
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal
from pgvector_sync.errors import Refused
from pgvector_sync.model import Effect
from pgvector_sync.runs.estimate import Estimate

Estimates = Mapping[str, Estimate | None]
"""One estimate per pipeline name; None if its rows can't be read."""


def show(plan: Plan, estimates: Estimates, *, prune: bool = False) -> None:
    """Print a plan."""
    for provider in plan.providers:
        _show_provider(provider)
    for rekey in plan.rekeys:
        _show_rekey(rekey)
    for pipeline in plan.pipelines:
        _show_pipeline(pipeline, estimates)
    for name in plan.unlisted:
        if prune:
            out.print(f"- pipeline {name}: removed, with its vectors", style="red")
        else:
            out.print(
                f"  pipeline {name} isn't in the file; to remove it: --prune, or `pgvector-sync remove {name}`"
            )
    if plan.empty and not (prune and plan.unlisted):
        out.print("nothing to do: the database matches the file")


def _show_provider(planned: ProviderPlan) -> None:
    place = dialect_of(planned.provider).place(planned.provider)
    if planned.existing is None:
        out.print(f"+ provider {planned.name}: {place}", style="green")
        return
    out.print(f"~ provider {planned.name}: {place}", style="yellow")
    for change in planned.changes:
        out.print(f"    {change.what}: {change.before} → {change.after}")


def _show_rekey(rekey: Rekey) -> None:
    out.print(f"~ source {rekey.source.label}: {', '.join(rekey.pipelines)}", style="yellow")
    if rekey.words:
        out.print(f"    key       {', '.join(rekey.words)}")
    for target in rekey.targets:
        out.print(f"    target    {target.words}")
    out.print("    check     every row is then compared with its vectors")


def _show_new(pipeline: PipelinePlan, target: str) -> None:
    out.print(f"+ pipeline {pipeline.name}: {pipeline.source.label} → {target}", style="green")
    out.print(f"    key       {', '.join(column.name for column in pipeline.source.key)}")
    out.print(indented("    text      ", ", ".join(pipeline.config.text_columns or [pipeline.options.text])))
    if pipeline.options.where:
        out.print(indented("    where     ", pipeline.options.where))
    kind = f"{pipeline.options.column_type}, {pipeline.options.metric.value}"
    out.print(f"    embedding {pipeline.provider.name}: {pipeline.options.model}, {kind}")


def _show_pipeline(pipeline: PipelinePlan, estimates: Estimates) -> None:
    target = f"{pipeline.target[0]}.{pipeline.target[1]}"
    for demand in pipeline.demands:
        out.print(f"! pipeline {pipeline.name}: {target}: {demand.words}; {demand.advice}", style="yellow")
    for note in notes_of_index(pipeline.options):
        out.print(f"! pipeline {pipeline.name}: {note}", style="yellow")
    if pipeline.proposal is not None:
        _show_proposal(pipeline, pipeline.proposal)
    if pipeline.idle:
        return
    if pipeline.existing is None:
        _show_new(pipeline, target)
    else:
        out.print(f"~ pipeline {pipeline.name}: {pipeline.source.label} → {target}", style="yellow")
        for change in pipeline.changes:
            out.print(f"    {change.what}: {change.before} → {change.after}")
    for label, words in _details(pipeline, target, estimates):
        out.print(f"    {label:<9} {words}")


def _show_proposal(pipeline: PipelinePlan, proposal: Proposal) -> None:
    model = f"its model ({proposal.family})"
    expects = f"! pipeline {pipeline.name}: {model} expects documents and queries in different forms"
    dialect = f'dialect = "{proposal.dialect}" in [providers.{pipeline.provider.name}]'
    if not proposal.lines:
        out.print(f"{expects}; consider {dialect} ({proposal.source})", style="yellow")
        return
    out.print(f"{expects}; add to [pipelines.{pipeline.name}]:", style="yellow")
    for line in proposal.lines:
        out.print(f"    {line}")
    out.print(f'  see {proposal.source}; if the endpoint does this by itself, set both prefixes to ""')
    if proposal.dialect:
        out.print(f"  or set {dialect}, with which none of these are needed")
    if pipeline.existing is not None and proposal.embeds_again and not pipeline.backfill:
        out.print("  then every row is embedded again: the plan will show the cost")


def _details(pipeline: PipelinePlan, target: str, estimates: Estimates) -> Iterator[tuple[str, str]]:
    if pipeline.expressions.depends:
        yield "needs", ", ".join(map(str, pipeline.expressions.depends))
    for function in pipeline.untried:
        yield (
            "note",
            f"{function} was not tested, because there are no rows: workers call it with search_path = pg_catalog",
        )
    if pipeline.take_over is not None:
        yield "target", pipeline.take_over.words
    if pipeline.recreate:
        yield "target", f"{target} was dropped and will be created again"
    if pipeline.missing_triggers:
        yield "triggers", f"on {pipeline.source.label}, for {', '.join(pipeline.capture.tracked)}"
    if pipeline.backfill:
        yield "backfill", pipeline.backfill_words
    if pipeline.name in estimates:
        yield "cost", in_short(estimates[pipeline.name])
    if any(change.what == "model" for change in pipeline.changes):
        yield "note", "until the backfill is done, the target has vectors of both models"
    elif any(change.effect & Effect.EMBEDS_AGAIN for change in pipeline.changes):
        yield "note", "until the backfill is done, the target has vectors of both kinds"


def confirm(plan: Plan, estimates: Estimates, *, yes: bool, prune: bool = False) -> None:
    """Ask before paying a provider or removing anything. Raises Refused if declined, or without a terminal."""
    costly = [pipeline for pipeline in plan.pending if pipeline.may_cost]
    removed = plan.unlisted if prune else []
    orphaning = [
        pipeline.take_over
        for pipeline in plan.pending
        if pipeline.take_over is not None and pipeline.take_over.removes_vectors
    ]
    if yes or not (costly or removed or orphaning or any(rekey.words for rekey in plan.rekeys)):
        return
    what = [f"{rekey.source.label}: key {', '.join(rekey.words)}" for rekey in plan.rekeys if rekey.words]
    what += [target.words for rekey in plan.rekeys for target in rekey.targets if target.rewritten]
    what += [take_over.words for take_over in orphaning]
    what += [
        f"{pipeline.name} {pipeline.backfill_words} at {pipeline.provider.name}: "
        f"{in_short(estimates[pipeline.name])}"
        for pipeline in costly
    ]
    what += [f"{name} and its vectors will be removed" for name in removed]
    ask("; ".join(what))


def ask(what: str) -> None:
    """Ask for confirmation. Raises Refused if declined, or without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(f"refusing without --yes: {what}", hint="run it again with --yes, or in a terminal")
    try:
        confirmed = typer.confirm(f"{what}. Continue?", err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):  # otherwise it was Ctrl-D
            raise KeyboardInterrupt from None
        confirmed = False
    if not confirmed:
        raise Refused("nothing was changed")
