"""The plan of `apply`: everything is looked at, and refused if it must be, before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import psycopg

from pgvector_sync.capture.faults import faults
from pgvector_sync.database import Connection, limit_statements, reading
from pgvector_sync.declare.changes import REFILLING, Change, changes_of
from pgvector_sync.declare.file import Config, PipelineConfig
from pgvector_sync.declare.rekey import Rekey, plan_rekey, require_carried_over
from pgvector_sync.declare.target import TakeOver, as_it_stands, choose_target, stand
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Provider, Source, Spec, State
from pgvector_sync.store import catalog, expressions, pipelines, sizes, sources, trust
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.probe import Expressions, understand
from pgvector_sync.store.shape import expression, name, text_of_columns
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Demand, demands
from pgvector_sync.store.triggers import Capture, installed

COUNT_LIMIT_ROWS = 100_000
COUNT_TIME = timedelta(seconds=2)


@dataclass(frozen=True)
class PipelinePlan:
    """What has to be done for one pipeline; nothing, when `idle`."""

    config: PipelineConfig
    existing: Pipeline | None
    source: Source
    table: Table
    provider: Provider
    spec: Spec
    target: Target
    text_given: str
    """As the file spells it."""
    expressions: Expressions
    read_columns: tuple[str, ...]
    rows: int
    """In the source; about so many where the table is large."""
    matching: int
    """Those that `where` accepts."""
    matching_exact: bool
    changes: tuple[Change, ...]
    refill: bool
    """Every row is read again; what is paid for is said by `pays`."""
    retype: bool
    """The (empty) target's column gets another type."""
    take_over: TakeOver | None
    """A target that is there already, kept by `remove --keep-vectors`."""
    recreate: bool
    """The target was dropped and is made again."""
    capture: Capture
    missing_triggers: tuple[str, ...]
    demands: tuple[Demand, ...] = ()
    """What may make the target refuse a write: constraints and triggers of the user's own."""
    untried: tuple[str, ...] = ()
    """Functions that look names up when they run, and no row to try them on under a worker's search_path."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def idle(self) -> bool:
        changed = self.changes or self.missing_triggers or self.recreate
        return self.existing is not None and not changed

    @property
    def creates_target(self) -> bool:
        return self.take_over is None and (self.existing is None or self.recreate)

    @property
    def costs(self) -> bool:
        """A fill of rows that are there, at a provider that may send a bill."""
        return self.refill and self.matching > 0 and dialect_of(self.provider).billed

    @property
    def pays(self) -> str:
        """What the fill will embed, in words."""
        count = f"{self.matching:,}" if self.matching_exact else f"about {self.matching:,}"
        anew = any(change.what in ("model", "dimensions") for change in self.changes)
        if self.creates_target or anew:
            return f"embeds {count} rows with {self.spec.model}"
        return f"reads {count} rows again, and embeds those whose text differs"


@dataclass
class Plan:
    pipelines: list[PipelinePlan] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    """Those whose settings change; no vector depends on them."""
    rekeys: list[Rekey] = field(default_factory=list)
    """Sources whose key columns were renamed or widened."""
    unlisted: list[str] = field(default_factory=list)
    """In the database but not in the file: left alone."""

    @property
    def pending(self) -> list[PipelinePlan]:
        return [plan for plan in self.pipelines if not plan.idle]

    @property
    def empty(self) -> bool:
        return not (self.pending or self.providers or self.rekeys)


def make_plan(connection: Connection, config: Config) -> Plan:
    """Compares file and database. Raises Refused that names every pipeline it concerns."""
    plan = Plan()
    there = {pipeline.name: pipeline for pipeline in pipelines.all_pipelines(connection)}
    stored = pipelines.providers(connection)
    used = {pipeline.provider for pipeline in config.pipelines.values()}
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
    plan.pipelines = [_with_capture(connection, made, plan, there) for made in plan.pipelines]
    plan.rekeys = [_with_triggers(connection, rekey, plan) for rekey in plan.rekeys]
    return plan


def _with_triggers(connection: Connection, rekey: Rekey, plan: Plan) -> Rekey:
    """Installs the triggers with the key: those for what is read already as well, until the pipelines change."""
    same = [made for made in plan.pipelines if made.source.id == rekey.source.id]
    after = same[0].capture
    tracked = {*after.tracked, *rekey.read(connection)}
    capture = replace(after, tracked=tuple(c.name for c in rekey.table.columns if c.name in tracked))
    if capture == after:
        plan.pipelines = [replace(made, missing_triggers=()) if made in same else made for made in plan.pipelines]
    return replace(rekey, capture=capture)


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
    table = catalog.find_table(connection, wanted.source_schema, wanted.source_table)
    key = catalog.find_key(connection, table, wanted.key)
    stored = sources.find(connection, table.schema, table.table)
    source = Source(0 if stored is None else stored.id, table.schema, table.table, key)
    require_carried_over(source, table, there.values())
    if wanted.capture_replicated:
        catalog.require_owner(connection, table, "capture_replicated")
    if wanted.text_columns is not None:
        catalog.require_columns(table, wanted.text_columns)
    text_given = wanted.text_sql or text_of_columns(wanted.text_columns or ())
    meant = understand(connection, source, table, text_given, wanted.where)
    read_columns = tuple(dict.fromkeys([*(c.name for c in key), *meant.columns]))
    target = choose_target(wanted, existing, source, taken)
    every = trust.strangers(connection, source, read_columns, meant.depends, target)
    if strange := [each for each in every if not each.no_table]:  # of which `stand` says more
        raise Refused("; ".join(each.words for each in strange), hint="\n".join(each.advice for each in strange))
    tried = expressions.require_same_results(connection, source, meant.text, meant.where, meant.loose)
    # first, since it says more; its key columns may be about to get the names of the source's
    found = () if existing is None else _require_writable(connection, as_it_stands(connection, existing))
    take_over, recreate = stand(connection, target, wanted, existing, source, table)
    spec = Spec(wanted.model, wanted.dimensions)
    rows, exact = _count(connection, source, table, None)
    matching = (rows, exact) if wanted.where is None else _count(connection, source, table, meant.where)
    provider = config.providers[wanted.provider]
    changes: tuple[Change, ...] = ()
    retype = False
    if existing is not None:
        changes, retype = changes_of(connection, existing, wanted, source, text_given, meant, there=not recreate)
    refill = existing is None or recreate or any(c.what in REFILLING for c in changes)
    return PipelinePlan(
        config=wanted,
        existing=existing,
        source=source,
        table=table,
        provider=provider,
        spec=spec,
        target=target,
        text_given=text_given,
        expressions=meant,
        read_columns=read_columns,
        rows=rows,
        matching=matching[0],
        matching_exact=matching[1],
        changes=changes,
        refill=refill,
        retype=retype,
        take_over=take_over,
        recreate=recreate,
        capture=_capture(connection, source, table, (), wanted.capture_replicated),
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


def _count(connection: Connection, source: Source, table: Table, where: str | None) -> tuple[int, bool]:
    """Rows that `where` accepts, and whether they were counted; else the planner has estimated them."""
    relation, wanted = name(source.schema, source.table), expression(where or "true")
    try:
        with reading(connection):  # which takes the limit back as well
            limit_statements(connection, COUNT_TIME)
            counted = sizes.count_up_to(connection, relation, wanted=wanted, limit=COUNT_LIMIT_ROWS + 1)
    except (psycopg.errors.QueryCanceled, psycopg.DataError):
        counted = COUNT_LIMIT_ROWS + 1 if where is None else 0
    else:
        if counted <= COUNT_LIMIT_ROWS:
            return counted, True
    if where is None:
        return max(counted, table.estimated_rows), False
    with reading(connection):
        return max(counted, sizes.estimate(connection, relation, wanted)), False


def _with_capture(
    connection: Connection, made: PipelinePlan, plan: Plan, there: dict[str, Pipeline]
) -> PipelinePlan:
    """The triggers of the source serve all its pipelines, those of this plan included."""
    same = [other for other in plan.pipelines if other.source.label == made.source.label]
    named = {other.name for other in same}
    tracked = {name for other in same for name in other.read_columns}
    targets = {other.target for other in same}
    for other in there.values():
        if other.source.label == made.source.label and other.name not in named and other.state != "removing":
            targets.add((other.target_schema, other.target_table))
    replicated = any(other.config.capture_replicated for other in same)
    if made.source.id:
        readers = sources.pipelines(connection, made.source.id)
        unlisted = [reader for reader in readers if reader.name not in named]
        tracked |= {column for reader in unlisted for column in reader.read_columns}
        # what the pipelines that the file doesn't name asked for, nobody has taken back
        stored = sources.find(connection, made.source.schema, made.source.table)
        replicated |= bool(unlisted and stored and stored.capture_replicated)
    columns = tuple(column.name for column in made.table.columns if column.name in tracked)
    wanted = _capture(connection, made.source, made.table, columns, replicated, tuple(sorted(targets)))
    if not made.source.id:
        return replace(made, capture=wanted, missing_triggers=("all",))
    missing = faults(wanted, installed(connection, made.source.id))
    return replace(made, capture=wanted, missing_triggers=tuple(map(str, missing)))


def _capture(
    connection: Connection,
    source: Source,
    table: Table,
    tracked: tuple[str, ...],
    replicated: bool,
    targets: tuple[Target, ...] = (),
) -> Capture:
    return Capture(
        source=source,
        owner=table.owner,
        tracked=tracked,
        toastable=frozenset(column.name for column in table.columns if column.can_toast),
        targets=targets,
        replicated=replicated,
        partitioned=table.partitioned,
        partitions=catalog.partitions(connection, table),
        server_version=connection.info.server_version,
    )
