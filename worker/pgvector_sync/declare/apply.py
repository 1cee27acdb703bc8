"""`apply` and `remove`: make the database match the file, one transaction per pipeline."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pgvector_sync.capture import triggers
from pgvector_sync.database import Connection, Database
from pgvector_sync.declare import rekey
from pgvector_sync.declare.gap import Say, Site, retry_ddl
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.target import TakeOver
from pgvector_sync.engine import watch
from pgvector_sync.errors import Refused
from pgvector_sync.index.requests import end_builds
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
    """Carry out the plan and return the IDs of the backfills that it started.

    say: called with messages about waiting.
    Raises Refused if the database has changed since the plan was made, or if a lock isn't free in time. After an
    error, another `apply` continues.
    """
    backfills = []
    if plan.providers:
        with database.transaction(durable=True) as connection:
            _require_all_of_a_dialect(connection, plan)
            for planned in plan.providers:
                pipelines.put_provider(connection, planned.provider)
    for key_change in plan.rekeys:
        rekey.carry_out(database, key_change, say=say)
    for pipeline in plan.pending:
        if pipeline.take_over is not None:
            rekey.widen(database, pipeline.target, pipeline.table, pipeline.take_over.changes, say=say)
        backfill = retry_ddl(database, _site(pipeline), partial(_apply, database, pipeline), say=say)
        emit(PipelineApplied(pipeline=pipeline.name))
        if backfill is not None:
            backfills.append(backfill)
    watch.look_now(database)
    return backfills


def _require_all_of_a_dialect(connection: Connection, plan: Plan) -> None:
    """Raises Refused if a provider's dialect changes under a pipeline whose vectors this plan doesn't renew."""
    dialects = {planned.name: planned.provider.dialect for planned in plan.providers}
    planned = {pipeline.name for pipeline in plan.pipelines}
    for stored in pipelines.all_pipelines(connection):
        provider = stored.options.provider
        if stored.name not in planned and dialects.get(provider, stored.options.dialect) != stored.options.dialect:
            raise Refused(
                f"pipeline {stored.name} also uses provider {provider}, and isn't in the file: "
                f"another dialect makes its vectors stale",
                hint=f"declare it in the file, or: pgvector-sync remove {stored.name}",
            )


def _site(plan: PipelinePlan) -> Site:
    altered = plan.retype or plan.take_over is not None
    return Site((plan.source.schema, plan.source.table), (plan.target,) if altered else ())


def _apply(database: Database, plan: PipelinePlan, connection: Connection) -> int | None:
    locks.lock_drain(connection)
    # Changes that were missed until now must be found afterwards, for every pipeline of this source.
    for verdict in watch.verdicts(connection):
        if verdict.facts.source.id == plan.source.id:
            watch.note(connection, verdict)
    source = _put_source(connection, plan)
    target = plan.target
    if plan.take_over is not None:
        _take_over(connection, plan, plan.take_over, source)
    elif plan.creates_target:
        target_ddl.create(
            connection,
            target,
            source,
            plan.table,
            plan.spec,
            vector_type=plan.options.vector_type,
            vector_schema=database.vector_schema,
            pipeline=plan.name,
        )
        grants.grant_target(connection, target)
    elif plan.retype:
        target_ddl.retype(
            connection,
            target,
            plan.spec,
            vector_type=plan.options.vector_type,
            vector_schema=database.vector_schema,
        )
    pipeline_id = _put_pipeline(connection, plan, source)
    partitions.remember_if_empty(connection, pipeline_id, target, plan.table.oid)
    backfill = runs.start_backfill(connection, pipeline_id, rows_total=plan.rows) if plan.backfill else None
    # Last, to lock the source as briefly as possible. The backfill reads after this commit.
    installed = replace(plan.capture, source=source)
    if plan.missing_triggers:
        triggers.install(connection, installed)
    return backfill


def _take_over(connection: Connection, plan: PipelinePlan, take_over: TakeOver, source: Source) -> None:
    """Adopt a kept target. The backfill finds the vectors that still fit by their fingerprints.

    The sweep requested here removes vectors whose rows were deleted while no trigger was installed.
    """
    current = target_table.find(connection, plan.target)
    if current is None or current.table.oid != take_over.standing.table.oid:
        raise Refused(
            f"{take_over.standing.label} was replaced since the plan was made",
            hint="run `pgvector-sync apply` again",
        )
    target_ddl.rename_keys(connection, plan.target, take_over.changes)
    target_ddl.adopt(
        connection, plan.target, source, pipeline=plan.name, indexed=take_over.standing.fingerprint_indexed
    )
    grants.grant_target(connection, plan.target)
    outbox.add_sweep(connection, source.id)


def _put_source(connection: Connection, plan: PipelinePlan) -> Source:
    tracked, replicated = plan.capture.tracked, plan.capture.replicated
    return replace(plan.source, id=sources.put(connection, plan.source, tracked=tracked, replicated=replicated))


def _put_pipeline(connection: Connection, plan: PipelinePlan, source: Source) -> int:
    expressions, read_columns, options = plan.expressions, plan.read_columns, plan.options
    if plan.existing is None:
        return pipelines.add(
            connection,
            plan.name,
            source=source,
            target=plan.target,
            meant=expressions,
            read_columns=read_columns,
            options=options,
        )
    bump = plan.backfill or plan.retype
    if not pipelines.change(
        connection, plan.existing, meant=expressions, read_columns=read_columns, options=options, bump=bump
    ):
        raise Refused(
            f"pipeline {plan.name} is being removed",
            hint="run `pgvector-sync apply` again afterwards",
        )
    return plan.existing.id


def remove(database: Database, name: str, *, keep_vectors: bool, say: Say) -> Pipeline:
    """Remove a pipeline with everything created for it: triggers, functions, work and, unless kept, its target.

    Raises Refused for an unknown name, or a role that isn't allowed to drop these. Run it again to finish an
    interrupted removal.
    """
    with database.transaction(durable=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        triggers.require_owner(connection, pipeline, of_target=not keep_vectors)
    # After this commit no rows are claimed, and a batch in flight can't write.
    database.retry_on_lock_conflict(lambda connection: pipelines.start_removing(connection, pipeline))
    _end_builds(database, name, say=say)

    def drop(connection: Connection) -> None:
        locks.lock_drain(connection)
        _drop_triggers(connection, pipeline)
        if not keep_vectors:
            target_ddl.drop(connection, (pipeline.target_schema, pipeline.target_table))
        pipelines.forget(connection, pipeline)

    target = (pipeline.target_schema, pipeline.target_table)
    site = Site((pipeline.source.schema, pipeline.source.table), () if keep_vectors else (target,))
    retry_ddl(database, site, drop, say=say)
    return pipeline


def _end_builds(database: Database, name: str, *, say: Say) -> None:
    """End the build of the pipeline's index, whose lock would keep the target from being dropped."""
    try:
        end_builds(database, name)
    except Refused as refused:  # a pooler is in between: what is left shows as an invalid index
        say(f"the build of {name}'s index isn't cleaned up: {refused}")


def _drop_triggers(connection: Connection, pipeline: Pipeline) -> None:
    same = [facts for facts in read_facts(connection) if facts.source.id == pipeline.source.id]
    others = [facts for facts in same if facts.name != pipeline.name and facts.state is not State.REMOVING]
    if not others:
        triggers.uninstall(connection, pipeline.source)
        return
    remaining = triggers.expected_capture(others, connection.info.server_version)
    if remaining is not None:  # None: the source was dropped or renamed; the last pipeline drops the functions
        triggers.install(connection, remaining)
