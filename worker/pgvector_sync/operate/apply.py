"""`apply` and `remove`: the database is made to match the file, one pipeline a transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random

from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.operate import watch
from pgvector_sync.operate.plan import PipelinePlan, Plan
from pgvector_sync.store import locks, partitions, pipelines, runs
from pgvector_sync.store.database import IN_THE_WAY, Connection, Database, one
from pgvector_sync.store.statements import statement
from pgvector_sync.store.watch import read_facts
from pgvector_sync.sync import capture
from pgvector_sync.telemetry import Event, log

T = TypeVar("T")
Say = Callable[[str], None]

DDL_LOCK_TIMEOUT = timedelta(milliseconds=500)
"""A CREATE TRIGGER that waits blocks every writer behind it, so it waits this long and then steps aside."""
DDL_PATIENCE = timedelta(minutes=2)


def apply_plan(database: Database, plan: Plan, *, say: Say) -> list[int]:
    """Carries the plan out; returns the ids of the fills it has started. `apply` again goes on where it stopped.

    Raises Refused where the database changed since the plan was made, or writers never left a gap.
    """
    fills = []
    if plan.providers:
        with database.transaction(durable=True) as connection:
            for provider in plan.providers:
                pipelines.put_provider(connection, provider)
    for made in plan.pending:
        fill = _between_writers(database, made.source, partial(_apply, database, made), say=say)
        log.info(Event.APPLIED, pipeline=made.name)
        if fill is not None:
            fills.append(fill)
    watch.look_now(database)
    return fills


def _between_writers(database: Database, source: Source, action: Callable[[Connection], T], *, say: Say) -> T:
    """Runs DDL on a source in a gap between its writers, with short waits and many tries."""

    def waiting(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            say(f"waiting for a gap between the writers of {source.label} …")

    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(IN_THE_WAY),
            stop=stop_after_delay(DDL_PATIENCE),
            wait=wait_random(0.2, 1.0),
            before_sleep=waiting,
            reraise=True,
        ):
            with attempt, database.transaction(lock_timeout=DDL_LOCK_TIMEOUT, durable=True) as connection:
                return action(connection)
    except IN_THE_WAY:
        raise Refused(
            f"for {int(DDL_PATIENCE.total_seconds())} seconds no gap came between the writers of {source.label}",
            hint="end the long transaction (SELECT pid, xact_start, query FROM pg_stat_activity "
            "WHERE state <> 'idle' ORDER BY xact_start), then run the command again: it goes on where it stopped",
        ) from None
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        raise Refused("another apply ran at the same time", hint="run `pgvector-sync apply` again") from None
    raise AssertionError("unreachable")  # pragma: no cover - reraise=True


def _apply(database: Database, made: PipelinePlan, connection: Connection) -> int | None:
    locks.lock_drain(connection)
    # what was missed until now has to be compared afterwards, by every pipeline of this source
    for found in watch.verdicts(connection):
        if found.facts.source.id == made.source.id:
            watch.note(connection, found)
    source = _put_source(connection, made)
    target = made.target
    if made.existing is None:
        capture.create_target(
            connection,
            target,
            source,
            made.table,
            made.spec,
            vector_type=made.config.vector_type,
            vector_schema=database.vector_schema,
            pipeline=made.name,
        )
    elif made.retype:
        connection.execute(
            statement("apply.retype_target").format(
                target=sql.Identifier(*target),
                column_type=sql.SQL("{}({})").format(
                    sql.Identifier(database.vector_schema, made.config.vector_type.value),
                    sql.Literal(made.spec.dimensions),
                ),
            )
        )
    pipeline_id = _put_pipeline(connection, made, source)
    partitions.remember_if_empty(connection, pipeline_id, target, made.table.oid)
    fill = runs.start_fill(connection, pipeline_id, rows_total=made.rows) if made.refill else None
    # last, so that the source is locked for as short as can be; the fill reads after this commit
    installed = replace(made.capture, source=source)
    if made.missing_triggers:
        capture.install(connection, installed)
    return fill


def _put_source(connection: Connection, made: PipelinePlan) -> Source:
    row = one(
        connection,
        statement("pipelines.put_source"),
        {
            "schema": made.source.schema,
            "table": made.source.table,
            "key_columns": [column.name for column in made.source.key],
            "key_types": [column.type for column in made.source.key],
            "tracked_columns": list(made.capture.tracked),
            "capture_replicated": made.capture.replicated,
        },
    )
    return replace(made.source, id=row["id"])


def _put_pipeline(connection: Connection, made: PipelinePlan, source: Source) -> int:
    config = made.config
    values = {
        "name": config.name,
        "source_id": source.id,
        "target_schema": made.target[0],
        "target_table": made.target[1],
        "text_columns": list(config.text_columns) if config.text_columns is not None else None,
        "text_sql": made.expressions.text,
        "where_sql": made.expressions.where,
        "text_given": made.text_given,
        "where_given": config.where,
        "read_columns": list(made.read_columns),
        "provider": config.provider,
        "model": config.model,
        "dimensions": config.dimensions,
        "metric": config.metric,
        "vector_type": config.vector_type,
        "batch_size": config.batch_size,
        "tokens_per_day": config.tokens_per_day,
        "usd_per_million_tokens": config.usd_per_million_tokens,
        "reconcile": Jsonb(pipelines.schedule_json(config.schedule)),
    }
    if made.existing is None:
        return int(one(connection, statement("pipelines.add"), values)["id"])
    values |= {"id": made.existing.id, "bump": made.refill or made.retype}
    if connection.execute(statement("pipelines.change"), values).rowcount != 1:
        raise Refused(
            f"pipeline {config.name} is being removed", hint="run `pgvector-sync apply` again afterwards"
        )
    return made.existing.id


def remove(database: Database, name: str, *, keep_vectors: bool, say: Say) -> Pipeline:
    """Takes a pipeline off: triggers, functions, rows of ours, and the target unless it is kept.

    Raises Refused for an unknown name. An interrupted removal is finished by running it again.
    """
    with database.transaction(durable=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
    # from this commit on nothing is claimed, and a batch in flight writes nothing
    database.patiently(lambda c: c.execute(statement("pipelines.removing"), {"id": pipeline.id}))

    def take_off(connection: Connection) -> None:
        locks.lock_drain(connection)
        _take_off_triggers(connection, pipeline)
        if not keep_vectors:
            capture.drop_target(connection, (pipeline.target_schema, pipeline.target_table))
        pipelines.forget(connection, pipeline)

    _between_writers(database, pipeline.source, take_off, say=say)
    return pipeline


def _take_off_triggers(connection: Connection, pipeline: Pipeline) -> None:
    same = [facts for facts in read_facts(connection) if facts.source.id == pipeline.source.id]
    others = [facts for facts in same if facts.name != pipeline.name and facts.state is not State.REMOVING]
    if not others:
        capture.uninstall(connection, pipeline.source)
        return
    remaining = capture.of_stored(others, connection.info.server_version)
    if remaining is not None:  # else dropped or renamed: the last pipeline takes the functions along
        capture.install(connection, remaining)
