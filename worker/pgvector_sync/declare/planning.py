"""Making the plan of `apply`: everything is looked at, and refused if it must be, before anything is touched."""

from __future__ import annotations

from pgvector_sync.database import Connection
from pgvector_sync.declare.changes import Change, changes_of
from pgvector_sync.declare.count import count
from pgvector_sync.declare.file import Config, PipelineConfig
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.rekey import plan_rekey, require_carried_over
from pgvector_sync.declare.target import as_it_stands, choose_target, stand
from pgvector_sync.declare.triggers import capture_of, with_capture, with_triggers
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.store import catalog, expressions, pipelines, sources, trust
from pgvector_sync.store.probe import understand
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Demand, demands


def make_plan(connection: Connection, config: Config) -> Plan:
    """Compares file and database. Raises Refused that names every pipeline it concerns."""
    plan = Plan()
    there = {pipeline.name: pipeline for pipeline in pipelines.all_pipelines(connection)}
    stored = pipelines.providers(connection)
    used = {pipeline.options.provider for pipeline in config.pipelines.values()}
    plan.providers = [config.providers[n] for n in sorted(used) if stored.get(n) != config.providers[n]]
    plan.unlisted = sorted(set(there) - set(config.pipelines))
    taken: dict[Target, str] = {(p.target_schema, p.target_table): p.name for p in there.values()}
    refusals = []
    for pipeline, wanted in config.pipelines.items():
        try:
            made = _plan(connection, config, wanted, there, taken)
            _require_one_key(made, plan.pipelines)
            if all(rekey.source.id != made.source.id for rekey in plan.rekeys):
                plan.rekeys += plan_rekey(connection, made.source, made.table, there.values())
        except Refused as refused:
            refusals.append((pipeline, refused))
        else:
            taken[made.target] = pipeline
            plan.pipelines.append(made)
    if refusals:
        lines = [f"pipeline {name}: {refused}" for name, refused in refusals]
        hints = list(dict.fromkeys(refused.hint for _, refused in refusals if refused.hint))
        raise Refused("\n".join(lines), hint="\n".join(hints))
    plan.pipelines = [with_capture(connection, made, plan, there) for made in plan.pipelines]
    plan.rekeys = [with_triggers(connection, rekey, plan) for rekey in plan.rekeys]
    return plan


def _require_one_key(made: PipelinePlan, others: list[PipelinePlan]) -> None:
    """Raises Refused where pipelines of one source want to tell its rows apart in different ways."""
    for other in others:
        if other.source.label == made.source.label and other.source.key != made.source.key:
            raise Refused(
                f"its key of {made.source.label} is ({', '.join(c.name for c in made.source.key)}), and that of "
                f"pipeline {other.name} ({', '.join(c.name for c in other.source.key)})",
                hint="all pipelines of a source share one key: declare the same in each, or none",
            )


def _plan(
    connection: Connection,
    config: Config,
    wanted: PipelineConfig,
    there: dict[str, Pipeline],
    taken: dict[Target, str],
) -> PipelinePlan:
    existing = there.get(wanted.name)
    if existing is not None and existing.state is State.REMOVING:
        raise Refused("it is being removed", hint=f"finish that first: pgvector-sync remove {wanted.name}")
    table = catalog.find_table(connection, *wanted.source)
    key = catalog.find_key(connection, table, wanted.key)
    stored = sources.find(connection, table.schema, table.table)
    source = Source(0 if stored is None else stored, table.schema, table.table, key)
    require_carried_over(source, table, there.values())
    if wanted.options.capture_replicated:
        catalog.require_owner(connection, table, "capture_replicated")
    if wanted.text_columns is not None:
        catalog.require_columns(table, wanted.text_columns)
    options = wanted.options
    meant = understand(connection, source, table, options.text, options.where)
    read_columns = tuple(dict.fromkeys([*(c.name for c in key), *meant.columns]))
    target = choose_target(wanted, existing, source, taken)
    every = trust.strangers(connection, source, read_columns, meant.depends, target)
    if strange := [each for each in every if not each.no_table]:  # of which `stand` says more
        raise Refused("; ".join(each.words for each in strange), hint="\n".join(each.advice for each in strange))
    tried = expressions.require_same_results(connection, source, meant.text, meant.where, meant.loose)
    # first, since it says more; its key columns may be about to get the names of the source's
    found = () if existing is None else _require_writable(connection, as_it_stands(connection, existing))
    take_over, recreate = stand(connection, target, wanted, existing, source, table)
    rows, exact = count(connection, source, table, None)
    matching = (rows, exact) if options.where is None else count(connection, source, table, meant.where)
    changes: tuple[Change, ...] = ()
    if existing is not None:
        changes = changes_of(connection, existing, wanted, source, meant, target_exists=not recreate)
    return PipelinePlan(
        config=wanted,
        existing=existing,
        source=source,
        table=table,
        provider=config.providers[options.provider],
        target=target,
        expressions=meant,
        read_columns=read_columns,
        rows=rows,
        matching=matching[0],
        matching_exact=matching[1],
        changes=changes,
        take_over=take_over,
        recreate=recreate,
        capture=capture_of(connection, source, table, (), options.capture_replicated),
        missing_triggers=(),
        demands=found,
        untried=() if tried else meant.loose,
    )


def _require_writable(connection: Connection, pipeline: Pipeline) -> tuple[Demand, ...]:
    """What may refuse a write. Raises Refused for what certainly refuses every one."""
    found = demands(connection, pipeline)
    certain = [demand for demand in found if demand.kind in ("column", "identity", "rule")]
    if certain:
        words = "; ".join(demand.words for demand in certain)
        raise Refused(
            f"{pipeline.target_label} refuses every write: {words}", hint="\n".join(d.advice for d in certain)
        )
    return tuple(demand for demand in found if not demand.certain)
