"""`apply` and `remove`: the database is made to match the file, one pipeline a transaction."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pgvector_sync.capture import triggers
from pgvector_sync.database import Connection, Database
from pgvector_sync.declare import rekey
from pgvector_sync.declare.gap import Say, Site, in_a_gap
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.target import TakeOver
from pgvector_sync.engine import watch
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.store import (
    grants,
    locks,
    outbox,
    partitions,
    pipelines,
    runs,
    sources,
    target_ddl,
    target_table,
)
from pgvector_sync.store.watch import read_facts
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.schema import PipelineApplied


def apply_plan(database: Database, plan: Plan, *, say: Say) -> list[int]:
    """Carries out the plan and returns the ids of the backfills it started. Another `apply` continues it.

    Raises Refused where the database changed since the plan was made, or writers never left a gap.
    """
    backfills = []
    if plan.providers:
        with database.transaction(durable=True) as connection:
            for provider in plan.providers:
                pipelines.put_provider(connection, provider)
    for changed in plan.rekeys:
        rekey.carry_out(database, changed, say=say)
    for made in plan.pending:
        if made.take_over is not None:
            rekey.widen(database, made.target, made.table, made.take_over.changes, say=say)
        backfill = in_a_gap(database, _site(made), partial(_apply, database, made), say=say)
        emit(PipelineApplied(pipeline=made.name))
        if backfill is not None:
            backfills.append(backfill)
    watch.look_now(database)
    return backfills


def _site(made: PipelinePlan) -> Site:
    altered = made.retype or made.take_over is not None
    return Site((made.source.schema, made.source.table), (made.target,) if altered else ())


def _apply(database: Database, made: PipelinePlan, connection: Connection) -> int | None:
    locks.lock_drain(connection)
    # what was missed until now has to be compared afterwards, by every pipeline of this source
    for found in watch.verdicts(connection):
        if found.facts.source.id == made.source.id:
            watch.note(connection, found)
    source = _put_source(connection, made)
    target = made.target
    if made.take_over is not None:
        _take_over(connection, made, made.take_over, source)
    elif made.creates_target:
        target_ddl.create(
            connection,
            target,
            source,
            made.table,
            made.spec,
            vector_type=made.options.vector_type,
            vector_schema=database.vector_schema,
            pipeline=made.name,
        )
        grants.grant_target(connection, target)
    elif made.retype:
        target_ddl.retype(
            connection,
            target,
            made.spec,
            vector_type=made.options.vector_type,
            vector_schema=database.vector_schema,
        )
    pipeline_id = _put_pipeline(connection, made, source)
    partitions.remember_if_empty(connection, pipeline_id, target, made.table.oid)
    backfill = runs.start_backfill(connection, pipeline_id, rows_total=made.rows) if made.backfill else None
    # last, so that the source is locked for as short as can be; the backfill reads after this commit
    installed = replace(made.capture, source=source)
    if made.missing_triggers:
        triggers.install(connection, installed)
    return backfill


def _take_over(connection: Connection, made: PipelinePlan, taken: TakeOver, source: Source) -> None:
    """A target that was kept: what fits in it is found by its fingerprint, and vectors whose rows went meanwhile,
    when no trigger saw it, go with the sweep that is asked for here.
    """
    standing = target_table.find(connection, made.target)
    if standing is None or standing.table.oid != taken.standing.table.oid:
        raise Refused(f"{taken.standing.label} is another by now", hint="run `pgvector-sync apply` again")
    target_ddl.rename_keys(connection, made.target, taken.changes)
    target_ddl.adopt(
        connection, made.target, source, pipeline=made.name, indexed=taken.standing.fingerprint_indexed
    )
    grants.grant_target(connection, made.target)
    outbox.add_sweep(connection, source.id)


def _put_source(connection: Connection, made: PipelinePlan) -> Source:
    tracked, replicated = made.capture.tracked, made.capture.replicated
    return replace(made.source, id=sources.put(connection, made.source, tracked=tracked, replicated=replicated))


def _put_pipeline(connection: Connection, made: PipelinePlan, source: Source) -> int:
    meant, read_columns, options = made.expressions, made.read_columns, made.options
    if made.existing is None:
        return pipelines.add(
            connection,
            made.name,
            source=source,
            target=made.target,
            meant=meant,
            read_columns=read_columns,
            options=options,
        )
    bump = made.backfill or made.retype
    if not pipelines.change(
        connection, made.existing, meant=meant, read_columns=read_columns, options=options, bump=bump
    ):
        raise Refused(f"pipeline {made.name} is being removed", hint="run `pgvector-sync apply` again afterwards")
    return made.existing.id


def remove(database: Database, name: str, *, keep_vectors: bool, say: Say) -> Pipeline:
    """Takes a pipeline off: triggers, functions, rows of ours, and the target unless it is kept.

    Raises Refused for an unknown name, and for a role that may not drop what would go. An interrupted removal is
    finished by running it again.
    """
    with database.transaction(durable=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        triggers.require_owner(connection, pipeline, of_target=not keep_vectors)
    # from this commit on nothing is claimed, and a batch in flight writes nothing
    database.retry_on_lock_conflict(lambda connection: pipelines.start_removing(connection, pipeline))

    def take_off(connection: Connection) -> None:
        locks.lock_drain(connection)
        _take_off_triggers(connection, pipeline)
        if not keep_vectors:
            target_ddl.drop(connection, (pipeline.target_schema, pipeline.target_table))
        pipelines.forget(connection, pipeline)

    target = (pipeline.target_schema, pipeline.target_table)
    site = Site((pipeline.source.schema, pipeline.source.table), () if keep_vectors else (target,))
    in_a_gap(database, site, take_off, say=say)
    return pipeline


def _take_off_triggers(connection: Connection, pipeline: Pipeline) -> None:
    same = [facts for facts in read_facts(connection) if facts.source.id == pipeline.source.id]
    others = [facts for facts in same if facts.name != pipeline.name and facts.state is not State.REMOVING]
    if not others:
        triggers.uninstall(connection, pipeline.source)
        return
    remaining = triggers.expected_capture(others, connection.info.server_version)
    if remaining is not None:  # else dropped or renamed: the last pipeline takes the functions along
        triggers.install(connection, remaining)
