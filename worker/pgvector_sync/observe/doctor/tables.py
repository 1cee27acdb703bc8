"""Checks that a pipeline's source and target exist, have the right shape and are accessible to this role."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from pgvector_sync.database import Connection
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor import grants
from pgvector_sync.observe.doctor.verdicts import Verdicts
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.observe.level import Level
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import grants as stored_grants
from pgvector_sync.store import rows, target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.grants import Access, only_reads
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.target_table import Demand, demands


def source(runtime: Runtime, verdicts: Verdicts, pipeline: Pipeline) -> Iterator[Finding]:
    place = pipeline.source
    sound = True
    verdict = verdicts.of(pipeline)
    with runtime.database.transaction(read_only=True) as connection:
        access = _access(connection, place.schema, place.table, pipeline)
        reader = only_reads(connection)
    if verdict is None:
        return
    for problem in verdict.source_problems:
        sound = False
        yield error(problem.what, problem.command)
    if sound and reader:
        yield ok(f"{place.label}; reading it was not tested: this role can't write, unlike a worker's")
        return
    for finding in grants.on_source(access) if access is not None else ():
        sound = False
        yield finding
    if sound:
        yield from _try_to_read(runtime, pipeline)


def _try_to_read(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Run the worker's own reading statement for no rows: it fails if anything else is missing."""
    shape = Shape(pipeline, runtime.database.vector_schema)
    key = ", ".join(column.name for column in pipeline.source.key)
    try:
        with runtime.database.transaction(read_only=True) as connection:
            rows.look(connection, shape, [], text_limit=runtime.settings.text_limit_bytes)
    except DatabaseRefuses as refused:
        yield error(str(refused), refused.hint or "pgvector-sync apply")
    except psycopg.ProgrammingError as failure:
        reason = failure.diag.message_primary or type(failure).__name__  # names schema objects, never row contents
        yield error(
            f"reading {pipeline.source.label} and its target fails: {reason}",
            "restore what is missing; or change pgvector-sync.toml, then: pgvector-sync apply",
        )
    else:
        yield ok(f"{pipeline.source.label}, key {key}")


def target(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    start_over = f"to embed every row again: pgvector-sync remove {pipeline.name}, then pgvector-sync apply"
    wanted = f"{pipeline.options.vector_type.value}({pipeline.spec.dimensions})"
    with runtime.database.transaction(read_only=True) as connection:
        access = _access(connection, pipeline.target_schema, pipeline.target_table, pipeline)
        if access is None:
            yield error(
                f"the table {pipeline.target_label} doesn't exist",
                f"if it was renamed, rename it back; or, {start_over}",
            )
            return
        column = target_table.vector_type(connection, access.oid)
        problems = [] if only_reads(connection) else list(grants.on_target(access))
        problems += _demands(demands(connection, pipeline))
    yield from problems
    if column is None:
        yield error(f"{pipeline.target_label} has no column embedding", start_over)
    elif (column.type, column.dimensions) != (pipeline.options.vector_type.value, pipeline.spec.dimensions):
        size = f"({column.dimensions})" if column.dimensions > 0 else ""
        yield error(
            f"{pipeline.target_label}: expected vectors of type {wanted}, got {column.type}{size}", start_over
        )
    elif all(finding.level is Level.WARNING for finding in problems):
        yield ok(f"{pipeline.target_label}, {wanted}")


def _demands(unmet: list[Demand]) -> Iterator[Finding]:
    """Report what rejects writes, except what the other checks of the target report."""
    for demand in unmet:
        if demand.kind in ("grant", "type", "missing"):
            continue
        yield (error if demand.certain else warning)(demand.words, demand.advice)


def _access(connection: Connection, schema: str, table: str, pipeline: Pipeline) -> Access | None:
    """Return this role's privileges on the table, or None if it doesn't exist."""
    oid = find_relation(connection, schema, table)
    return None if oid is None else stored_grants.access(connection, oid, pipeline)
