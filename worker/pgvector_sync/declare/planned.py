"""What a plan will come to, estimated before it is carried out: for pipelines that are only declared."""

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
    """Of every pipeline of the plan whose backfill may cost something. None where its rows can't be read."""
    return {made.name: _estimate(runtime, made) for made in plan.pending if made.costs}


def _estimate(runtime: Runtime, made: PipelinePlan) -> Estimate | None:
    asked = Selection(has_target=not made.creates_target)
    if not made.matching_exact:
        asked = replace(asked, source_rows=max(made.rows, made.table.estimated_rows))
    try:
        with runtime.database.transaction(read_only=True) as connection:
            return estimate_of(connection, runtime, pipeline_of(made), asked)
    except Refused:
        return None  # a slow expression: as one that fails
    except OUTAGE:
        raise
    except psycopg.Error:
        return None  # an expression that fails on a row: for the workers to find out which, not for an estimate


def closed_sources(connection: Connection, plan: Plan) -> list[str]:
    """Sources that a worker's role can't read, each with the statement that lets it."""
    sources = {made.source.label: made for made in plan.pipelines}
    return [
        f"role {role}, a worker's, can't read {label}: GRANT USAGE ON SCHEMA {_quoted(made.source.schema)} TO "
        f"{_quoted(role)}; GRANT SELECT ON {_quoted(made.source.schema, made.source.table)} TO {_quoted(role)};"
        for label, made in sources.items()
        for role in closed_to_workers(connection, made.table.oid)
    ]


def _quoted(*name: str) -> str:
    return sql.Identifier(*name).as_string()


def declared(connection: Connection, config: Config, name: str) -> PipelinePlan:
    """The plan of one pipeline of a file. Raises Refused where the file doesn't have it, or the database can't."""
    if name not in config.pipelines:
        known = ", ".join(config.pipelines)
        raise Refused(f"{config.path} declares no pipeline {name}", hint=f"it declares {known}")
    [made] = make_plan(connection, replace(config, pipelines={name: config.pipelines[name]})).pipelines
    return made


def as_declared(database: Database, name: str, file: Path | None, *, usual: Path) -> PipelinePlan | None:
    """The plan of one pipeline as `file` declares it.

    Without a file it is that of `usual`, for a pipeline that the database doesn't have yet; None where the
    database's own is meant.
    """
    with database.transaction(force_rollback=True) as connection:
        if file is not None:
            return declared(connection, load_config(file), name)
        if pipelines.find_pipeline(connection, name) is not None or not usual.is_file():
            return None
        config = load_config(usual)
        return declared(connection, config, name) if name in config.pipelines else None


def estimate_declared(
    runtime: Runtime, made: PipelinePlan, request: Reembed, *, keys: Sequence[Key] | None
) -> Estimate:
    """What a re-embed of the pipeline will come to once the plan is applied. Raises Refused as `estimate` does."""
    asked = Selection(request, keys, has_target=not made.creates_target)
    with runtime.database.transaction(read_only=True) as connection:
        return estimate_of(connection, runtime, pipeline_of(made), asked)


def pipeline_of(made: PipelinePlan) -> Pipeline:
    """The pipeline as it will be."""
    existing = made.existing
    return Pipeline(
        id=existing.id if existing else 0,
        name=made.name,
        source=made.source,
        target_schema=made.target[0],
        target_table=made.target[1],
        text_sql=made.expressions.text,
        where_sql=made.expressions.where,
        read_columns=made.read_columns,
        needs=made.expressions.depends,
        provider=made.provider,
        spec=made.spec,
        spec_version=existing.spec_version if existing else 1,
        options=made.options,
        state=existing.state if existing else State.ACTIVE,
    )
