"""`index advise`: the advised index of a pipeline, why, what Postgres will do with it, and the SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from pgvector_sync.errors import Refused
from pgvector_sync.index.advice import Choice, advise
from pgvector_sync.index.checks import default_name
from pgvector_sync.index.facts import Goal, Problem
from pgvector_sync.index.pages import default_lists
from pgvector_sync.index.recall import OnProgress
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding
from pgvector_sync.observe.index_dial import measured
from pgvector_sync.observe.index_facts import Read, read
from pgvector_sync.observe.index_planner import explain
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import grants, index_ddl, pipelines
from pgvector_sync.store.conditions import Condition, KnownConditions
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.trust import require_trusted

_MB = 1_024 * 1_024


@dataclass(frozen=True, slots=True)
class Advised:
    """The advised index; `exact` means none."""

    method: str
    """`exact`, `hnsw` or `ivfflat`."""
    storage: str
    m: int | None
    ef_construction: int | None
    lists: int | None
    setting: str | None
    """What searches set: `hnsw.ef_search` or `ivfflat.probes`."""
    value: int | None
    measured: bool
    """Whether the value was measured. Otherwise it is a start value."""
    keep: str | None
    """The name of the index that is as good already."""
    bytes: int | None
    build_memory_bytes: int | None
    build_time: timedelta | None
    """None without a measured build."""


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """What `index advise` says about a pipeline."""

    pipeline: str
    vectors: int
    rows_planned: int
    """With the rest of the backfill, and the growth of 90 days."""
    dimensions: int
    recall: float
    """The recall that was asked for."""
    latency: timedelta | None
    memory_bytes: int | None
    exact: timedelta | None
    """The time of a search that compares all vectors now; None: too long, or there are none."""
    growth_per_day: float | None
    churn_per_day: float | None
    advised: Advised
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...]
    """What keeps the goal from being reached, and what would help."""
    planner: tuple[Finding, ...]
    """When Postgres uses the index, and when not."""
    section: str | None
    """For pgvector-sync.toml; None without an index."""
    sql: tuple[str, ...]
    """The statements, for use without `index build`."""


def advice(
    runtime: Runtime,
    name: str,
    goal: Goal,
    *,
    where: str | None = None,
    measuring: bool = True,
    progress: OnProgress = lambda _done, _total: None,
) -> IndexAdvice:
    """Advise an index for a pipeline. Reads only. Raises Refused if the pipeline is unknown or can't be read.

    where: a condition of searches, for what Postgres will do with it.
    measuring: measure the recall of an index that exists.
    """
    database = runtime.database
    if not 0 < goal.recall <= 1:
        raise Refused(f"expected a recall above 0 and up to 1, got {goal.recall:g}", hint="--recall 0.95")
    with database.transaction(read_only=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        grants.require_sole_author(connection)
        require_trusted(connection, pipeline, whole=where is not None)
        shape = Shape(pipeline, database.vector_schema)
        condition = None if where is None else Condition.without_params(where)
        if condition is not None:
            KnownConditions().require_valid(connection, shape, condition)
        facts = read(connection, shape)
        planner = tuple(explain(connection, shape, facts, condition))
    known = facts.facts
    if measuring:
        known = replace(known, measured=measured(database, runtime.settings, known, goal.recall, progress))
    return _written(shape, facts, goal, advise(known, goal), planner)


def _written(shape: Shape, facts: Read, goal: Goal, choice: Choice, planner: tuple[Finding, ...]) -> IndexAdvice:
    pipeline = shape.pipeline
    return IndexAdvice(
        pipeline=pipeline.name,
        vectors=facts.facts.vectors,
        rows_planned=choice.rows,
        dimensions=pipeline.spec.dimensions,
        recall=goal.recall,
        latency=goal.latency,
        memory_bytes=goal.memory,
        exact=facts.facts.exact,
        growth_per_day=facts.facts.growth_per_day,
        churn_per_day=facts.facts.churn_per_day,
        advised=advised_of(choice),
        reasons=choice.reasons,
        problems=choice.problems,
        planner=planner,
        section=_section(pipeline, choice),
        sql=tuple(_sql(shape, facts, choice)),
    )


def advised_of(choice: Choice) -> Advised:
    """Return what a choice says, without its reasons."""
    plan = choice.plan
    hnsw = plan.method == "hnsw"
    return Advised(
        method="exact" if plan.method is None else plan.method.value,
        storage=choice.storage.value,
        m=plan.m if hnsw else None,
        ef_construction=plan.ef_construction if hnsw else None,
        lists=plan.lists,
        setting=choice.setting,
        value=choice.value,
        measured=choice.measured,
        keep=None if choice.keep is None else choice.keep.name,
        bytes=choice.bytes,
        build_memory_bytes=choice.build_memory_bytes,
        build_time=choice.build_time,
    )


def _section(pipeline: Pipeline, choice: Choice) -> str | None:
    if choice.plan.method is None:
        return None
    plan = choice.plan
    whole = replace(  # when it is built and measured stays as declared
        pipeline.options.index,
        method=plan.method,
        storage=plan.storage,
        m=plan.m,
        ef_construction=plan.ef_construction,
        lists=plan.lists,
        recall=plan.recall,
    )
    lines = [f"[pipelines.{pipeline.name}.index]"]
    for key, value in whole.written().items():
        written = json.dumps(value)  # strings and numbers are the same in TOML
        lines.append(f"{key} = {written}")
    return "\n".join(lines)


def _sql(shape: Shape, facts: Read, choice: Choice) -> Iterator[str]:
    plan = choice.plan
    if plan.method is None:
        return
    if choice.keep is None:
        memory = (choice.build_memory_bytes or 0) // _MB + 1
        if memory > facts.settings.maintenance_work_mem // _MB:
            yield f"SET maintenance_work_mem = '{memory}MB';"
        if choice.alone:
            yield "SET max_parallel_maintenance_workers = 0;"
        lists = plan.lists or default_lists(choice.rows)
        composed = index_ddl.create(shape, plan, _name(shape, facts, choice), lists=lists)
        yield (
            composed.as_string().replace("%%", "%").strip() + ";"
        )  # names are written for statements with parameters
    yield f"SET LOCAL {choice.setting} = {choice.value}; -- in each transaction that searches"


def _name(shape: Shape, facts: Read, choice: Choice) -> str:
    """Return the name that `index build` would choose, or that and a number if another vector index has it."""
    taken = {index.name for index in facts.indexes}
    wanted = default_name(shape.pipeline, choice.plan)
    return next(name for n in range(len(taken) + 1) if (name := f"{wanted}{n or ''}") not in taken)
