"""A plan as printed by `apply --json`: what differs, what it costs, and whether it was applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgvector_sync.declare.changes import Change
from pgvector_sync.declare.plan import PipelinePlan, Plan, ProviderPlan
from pgvector_sync.embedding.families.proposal import Proposal
from pgvector_sync.runs.estimate import Estimate


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What `apply` does with one pipeline of the file."""

    name: str
    action: str
    """`create`, `change` or `none`."""
    source: str
    target: str
    changes: tuple[Change, ...]
    backfill: bool
    """Whether every row is read again."""
    estimate: Estimate | None
    """What the backfill costs; None if it costs nothing or can't be estimated."""
    proposal: Proposal | None
    """What the file lacks for the pipeline's model."""


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """A provider that is new or whose settings differ."""

    name: str
    action: str
    """`create` or `change`."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The differences between the file and the database."""

    pending: bool
    """Whether anything differed."""
    applied: bool
    pipelines: tuple[PipelineReport, ...]
    providers: tuple[ProviderReport, ...]
    sources: tuple[str, ...]
    """Sources whose key has changed."""
    unlisted: tuple[str, ...]
    """Pipelines in the database but not in the file. --prune removes them."""


def report_of(plan: Plan, estimates: Mapping[str, Estimate | None], *, prune: bool, applied: bool) -> PlanReport:
    """Build the report. `estimates` are by pipeline."""
    return PlanReport(
        pending=is_pending(plan, prune=prune),
        applied=applied,
        pipelines=tuple(_report(planned, estimates.get(planned.name)) for planned in plan.pipelines),
        providers=tuple(_provider_report(planned) for planned in plan.providers),
        sources=tuple(rekey.source.label for rekey in plan.rekeys),
        unlisted=tuple(plan.unlisted),
    )


def is_pending(plan: Plan, *, prune: bool) -> bool:
    """Whether `apply` has anything to do."""
    return not plan.empty or (prune and bool(plan.unlisted))


def _provider_report(planned: ProviderPlan) -> ProviderReport:
    return ProviderReport(planned.name, "create" if planned.existing is None else "change", planned.changes)


def _report(planned: PipelinePlan, estimate: Estimate | None) -> PipelineReport:
    action = "none" if planned.idle else "create" if planned.existing is None else "change"
    target = ".".join(planned.target)
    changes = tuple(planned.changes)
    return PipelineReport(
        name=planned.name,
        action=action,
        source=planned.source.label,
        target=target,
        changes=changes,
        backfill=planned.backfill,
        estimate=estimate,
        proposal=planned.proposal,
    )
