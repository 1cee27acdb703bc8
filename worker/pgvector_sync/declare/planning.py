"""Making the plan of `apply`: everything is checked, and refused if necessary, before anything is changed."""

from __future__ import annotations

from pgvector_sync.database import Connection
from pgvector_sync.declare.changes import Change, changes_of
from pgvector_sync.declare.count import count
from pgvector_sync.declare.file import Config, PipelineConfig
from pgvector_sync.declare.plan import PipelinePlan, Plan, ProviderPlan
from pgvector_sync.declare.rekey import plan_rekey, require_compatible_key
from pgvector_sync.declare.target import choose_target, examine_target, with_current_key
from pgvector_sync.declare.triggers import capture_of, with_capture, with_triggers
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.store import catalog, expressions, pipelines, sources, trust
from pgvector_sync.store.parsing import understand
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Demand, demands
from pgvector_sync.store.triggers import installed, places_of


def make_plan(connection: Connection, config: Config) -> Plan:
    """Compare file and database. Raises Refused with the problems of all pipelines."""
    plan = Plan()
    existing = {pipeline.name: pipeline for pipeline in pipelines.all_pipelines(connection)}
    stored = pipelines.providers(connection)
    used = {pipeline.options.provider for pipeline in config.pipelines.values()}
    plan.providers = [
        ProviderPlan(config.providers[name], stored.get(name))
        for name in sorted(used)
        if stored.get(name) != config.providers[name]
    ]
    plan.unlisted = sorted(set(existing) - set(config.pipelines))
    taken: dict[Target, str] = {(p.target_schema, p.target_table): p.name for p in existing.values()}
    refusals = []
    for pipeline, wanted in config.pipelines.items():
        try:
            planned = _plan(connection, config, wanted, existing, taken)
            _require_one_key(planned, plan.pipelines)
            if all(rekey.source.id != planned.source.id for rekey in plan.rekeys):
                plan.rekeys += plan_rekey(connection, planned.source, planned.table, existing.values())
        except Refused as refused:
            refusals.append((pipeline, refused))
        else:
            taken[planned.target] = pipeline
            plan.pipelines.append(planned)
    if refusals:
        lines = [f"pipeline {name}: {refused}" for name, refused in refusals]
        hints = list(dict.fromkeys(refused.hint for _, refused in refusals if refused.hint))
        raise Refused("\n".join(lines), hint="\n".join(hints))
    plan.pipelines = [with_capture(connection, planned, plan, existing) for planned in plan.pipelines]
    plan.rekeys = [with_triggers(connection, rekey, plan) for rekey in plan.rekeys]
    return plan


def _find_table(connection: Connection, wanted: PipelineConfig, existing: Pipeline | None) -> catalog.Table:
    """Find the source. Raises Refused, which says what it is called now if it was renamed."""
    try:
        return catalog.find_table(connection, *wanted.source)
    except Refused as refused:
        places = [] if existing is None else places_of(installed(connection, existing.source.id))
        if existing is None or not places or existing.source.label in places:
            raise
        remove = f"`pgvector-sync remove {wanted.name}`"
        raise Refused(
            f"{refused}; its triggers are on {', '.join(places)} now",
            hint=f"rename it back, or make it the source of another pipeline and {remove}",
        ) from None


def _require_one_key(planned: PipelinePlan, others: list[PipelinePlan]) -> None:
    """Raises Refused if pipelines of one source declare different keys."""
    for other in others:
        if other.source.label == planned.source.label and other.source.key != planned.source.key:
            raise Refused(
                f"its key of {planned.source.label} is ({', '.join(c.name for c in planned.source.key)}), but "
                f"that of pipeline {other.name} is ({', '.join(c.name for c in other.source.key)})",
                hint="all pipelines of a source share one key: declare the same key in each, or in none",
            )


def _plan(
    connection: Connection,
    config: Config,
    wanted: PipelineConfig,
    pipelines_by_name: dict[str, Pipeline],
    taken: dict[Target, str],
) -> PipelinePlan:
    existing = pipelines_by_name.get(wanted.name)
    if existing is not None and existing.state is State.REMOVING:
        raise Refused("it is being removed", hint=f"finish the removal first: pgvector-sync remove {wanted.name}")
    table = _find_table(connection, wanted, existing)
    key = catalog.find_key(connection, table, wanted.key)
    stored = sources.find(connection, table.schema, table.table)
    source = Source(0 if stored is None else stored, table.schema, table.table, key)
    require_compatible_key(source, table, pipelines_by_name.values())
    if wanted.options.capture_replicated:
        catalog.require_owner(connection, table, "capture_replicated")
    if wanted.text_columns is not None:
        catalog.require_columns(table, wanted.text_columns)
    options = wanted.options
    resolved = understand(connection, source, table, options.text, options.where)
    read_columns = tuple(dict.fromkeys([*(c.name for c in key), *resolved.columns]))
    target = choose_target(wanted, existing, source, taken)
    strangers = trust.strangers(connection, source, read_columns, resolved.depends, target)
    untrusted = [stranger for stranger in strangers if not stranger.no_table]  # else: see examine_target
    if untrusted:
        raise Refused(
            "; ".join(stranger.words for stranger in untrusted),
            hint="\n".join(stranger.advice for stranger in untrusted),
        )
    tested = expressions.require_same_results(connection, source, resolved.text, resolved.where, resolved.loose)
    # Before `examine_target`, since its message says more. The key columns may still have their old names.
    unmet = () if existing is None else _require_writable(connection, with_current_key(connection, existing))
    take_over, recreate = examine_target(connection, target, wanted, existing, source, table)
    rows, exact = count(connection, source, table, None)
    matching = (rows, exact) if options.where is None else count(connection, source, table, resolved.where)
    changes: tuple[Change, ...] = ()
    if existing is not None:
        changes = changes_of(connection, existing, wanted, source, resolved, target_exists=not recreate)
    return PipelinePlan(
        config=wanted,
        existing=existing,
        source=source,
        table=table,
        provider=config.providers[options.provider],
        target=target,
        expressions=resolved,
        read_columns=read_columns,
        rows=rows,
        matching=matching[0],
        matching_exact=matching[1],
        changes=changes,
        take_over=take_over,
        recreate=recreate,
        capture=capture_of(connection, source, table, (), options.capture_replicated),
        missing_triggers=(),
        demands=unmet,
        untried=() if tested else resolved.loose,
    )


def _require_writable(connection: Connection, pipeline: Pipeline) -> tuple[Demand, ...]:
    """List what may refuse a write. Raises Refused for what refuses every write."""
    unmet = demands(connection, pipeline)
    certain = [demand for demand in unmet if demand.kind in ("column", "identity", "rule")]
    if certain:
        words = "; ".join(demand.words for demand in certain)
        raise Refused(
            f"{pipeline.target_label} refuses every write: {words}", hint="\n".join(d.advice for d in certain)
        )
    return tuple(demand for demand in unmet if not demand.certain)
