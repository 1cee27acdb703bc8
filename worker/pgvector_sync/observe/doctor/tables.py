"""A pipeline's source and target: there, of the right shape, and open to this role."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgvector_sync.database import Connection
from pgvector_sync.engine import watch
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor import grants
from pgvector_sync.observe.doctor.check import Finding, Level, error, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import grants as stored_grants
from pgvector_sync.store import rows, target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.grants import Access, only_reads
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.target_table import Demand, demands


def source(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    place = pipeline.source
    sound = True
    with runtime.database.transaction(read_only=True) as connection:
        found = watch.verdict_of(connection, pipeline)
        access = _access(connection, place.schema, place.table, pipeline)
        reader = only_reads(connection)
    if found is None:
        return
    for problem in found.source_problems:
        sound = False
        yield error(problem.what, problem.command)
    if sound and reader:
        yield ok(f"{place.label}; this role isn't a worker's, so reading it was not tried")
        return
    for finding in grants.on_source(access) if access is not None else ():
        sound = False
        yield finding
    if sound:
        yield from _try_to_read(runtime, pipeline)


def _try_to_read(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """The worker's own statement, for no row: whatever it needs besides, it says."""
    shape = Shape(pipeline, runtime.database.vector_schema)
    key = ", ".join(column.name for column in pipeline.source.key)
    try:
        with runtime.database.transaction(read_only=True) as connection:
            rows.look(connection, shape, [], text_limit=runtime.settings.text_limit_bytes)
    except DatabaseRefuses as refused:
        yield error(str(refused), refused.hint or "pgvector-sync apply")
    except psycopg.ProgrammingError as failure:
        said = failure.diag.message_primary or type(failure).__name__  # names things of the schema, never a row
        yield error(
            f"reading {pipeline.source.label} and its target fails: {said}",
            "put back what is missing, or change pgvector-sync.toml and then: pgvector-sync apply",
        )
    else:
        yield ok(f"{pipeline.source.label}, key {key}")


def target(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    afresh = f"pgvector-sync remove {pipeline.name} and then, to embed every row anew: pgvector-sync apply"
    wanted = f"{pipeline.options.vector_type.value}({pipeline.spec.dimensions})"
    with runtime.database.transaction(read_only=True) as connection:
        access = _access(connection, pipeline.target_schema, pipeline.target_table, pipeline)
        if access is None:
            yield error(f"there is no table {pipeline.target_label}", f"rename it back; or {afresh}")
            return
        column = target_table.vector_type(connection, access.oid)
        closed = [] if only_reads(connection) else list(grants.on_target(access))
        closed += _demands(demands(connection, pipeline))
    yield from closed
    if column is None:
        yield error(f"{pipeline.target_label} has no column embedding", afresh)
    elif (column.type, column.dimensions) != (pipeline.options.vector_type.value, pipeline.spec.dimensions):
        size = f"({column.dimensions})" if column.dimensions > 0 else ""
        yield error(f"{pipeline.target_label} holds {column.type}{size}, and the pipeline makes {wanted}", afresh)
    elif all(finding.level is Level.WARNING for finding in closed):
        yield ok(f"{pipeline.target_label}, {wanted}")


def _demands(found: list[Demand]) -> Iterator[Finding]:
    """What refuses our writes, besides what the other checks of the target say."""
    for demand in found:
        if demand.kind in ("grant", "type", "missing"):
            continue
        yield (error if demand.certain else warning)(demand.words, demand.advice)


def _access(connection: Connection, schema: str, table: str, pipeline: Pipeline) -> Access | None:
    """None where there is no such table."""
    oid = find_relation(connection, schema, table)
    return None if oid is None else stored_grants.access(connection, oid, pipeline)
