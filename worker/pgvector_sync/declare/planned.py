"""Estimates for pipelines that are declared but not applied yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from pgvector_sync.database import OUTAGE, Connection, Database
from pgvector_sync.declare.file import Config, load_config
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Pipeline, State
from pgvector_sync.model.request import Reembed
from pgvector_sync.runs.estimate import Estimate, Selection, estimate_of
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import pipelines
from pgvector_sync.store.grants import closed_to_workers


def estimates_of(runtime: Runtime, plan: Plan) -> dict[str, Estimate | None]:
    """Estimate each backfill that may cost something, by pipeline; None if its rows can't be read."""
    return {pipeline.name: _estimate(runtime, pipeline) for pipeline in plan.pending if pipeline.may_cost}


def _estimate(runtime: Runtime, plan: PipelinePlan) -> Estimate | None:
    asked = Selection(has_target=not plan.creates_target)
    if not plan.matching_exact:
        asked = replace(asked, source_rows=max(plan.rows, plan.table.estimated_rows))
    try:
        with runtime.database.transaction(read_only=True) as connection:
            return estimate_of(connection, runtime, pipeline_of(plan), asked)
    except Refused:
        return None  # a slow expression, treated like one that fails
    except OUTAGE:
        raise
    except psycopg.Error:
        return None  # the expression fails on a row; workers find out which, an estimate doesn't


def closed_sources(connection: Connection, plan: Plan) -> list[str]:
    """List sources that a worker's role can't read, each with the statements that grant it access."""
    sources = {each.source.label: each for each in plan.pipelines}
    return [
        f"the workers' role {role} can't read {label}: GRANT USAGE ON SCHEMA {_quoted(each.source.schema)} TO "
        f"{_quoted(role)}; GRANT SELECT ON {_quoted(each.source.schema, each.source.table)} TO {_quoted(role)};"
        for label, each in sources.items()
        for role in closed_to_workers(connection, each.table.oid)
    ]


def _quoted(*name: str) -> str:
    return sql.Identifier(*name).as_string()


def declared(connection: Connection, config: Config, name: str) -> PipelinePlan:
    """Plan one pipeline of a file. Raises Refused if the file doesn't declare it, or it can't be applied."""
    if name not in config.pipelines:
        known = ", ".join(config.pipelines)
        raise Refused(f"{config.path} doesn't declare pipeline {name}", hint=f"declared pipelines: {known}")
    [plan] = make_plan(connection, replace(config, pipelines={name: config.pipelines[name]})).pipelines
    return plan


def as_declared(database: Database, name: str, file: Path | None, *, default_file: Path) -> PipelinePlan | None:
    """Plan one pipeline as `file` declares it.

    Without `file`, a pipeline that isn't in the database is planned from `default_file`. Returns None if the
    pipeline is to be used as it is in the database.
    """
    with database.transaction(force_rollback=True) as connection:
        if file is not None:
            return declared(connection, load_config(file), name)
        if pipelines.find_pipeline(connection, name) is not None or not default_file.is_file():
            return None
        config = load_config(default_file)
        return declared(connection, config, name) if name in config.pipelines else None


def estimate_declared(
    runtime: Runtime, plan: PipelinePlan, request: Reembed, *, keys: Sequence[Key] | None
) -> Estimate:
    """Estimate a re-embed of the pipeline once the plan is applied. Raises Refused like `estimate`."""
    asked = Selection(request, keys, has_target=not plan.creates_target)
    with runtime.database.transaction(read_only=True) as connection:
        return estimate_of(connection, runtime, pipeline_of(plan), asked)


def pipeline_of(plan: PipelinePlan) -> Pipeline:
    """Return the pipeline as it is after `apply`."""
    existing = plan.existing
    return Pipeline(
        id=existing.id if existing else 0,
        name=plan.name,
        source=plan.source,
        target_schema=plan.target[0],
        target_table=plan.target[1],
        text_sql=plan.expressions.text,
        where_sql=plan.expressions.where,
        read_columns=plan.read_columns,
        needs=plan.expressions.depends,
        provider=plan.provider,
        spec=plan.spec,
        spec_version=existing.spec_version if existing else 1,
        options=plan.options,
        state=existing.state if existing else State.ACTIVE,
    )
