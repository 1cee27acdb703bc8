"""The check `index`: the indexes of a target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pgvector_sync.index.pages import MAX_INDEXED_DIMENSIONS
from pgvector_sync.model import Pipeline, Storage
from pgvector_sync.model.counted import counted
from pgvector_sync.observe import recall_trend
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.observe.index_builds import of_last_build
from pgvector_sync.observe.index_declared import missing, serves
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import index_build, target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.index_ddl import indexed, operator_class, storage_of
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.sizes import estimated_rows
from pgvector_sync.store.target_table import Index

EXACT_SCAN_LIMIT_ROWS = 50_000
"""An exact scan of this many vectors takes tens of milliseconds."""
LEFT_OVER = re.compile(r"_cc(new|old)\d*$")
"""Names that an interrupted REINDEX CONCURRENTLY leaves behind; the original index still exists."""
POSTGRES_METHODS = ("btree", "hash", "gist", "spgist", "gin", "brin", "hnsw", "ivfflat")
"""The methods of Postgres and pgvector. Another one, such as `vchordrq` or `diskann`, may find vectors too."""


def on_target(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Yield nothing if the target is missing, which the check `target` reports."""
    with runtime.database.transaction(read_only=True) as connection:
        oid = find_relation(connection, pipeline.target_schema, pipeline.target_table)
        if oid is None:
            return
        indexes = target_table.indexes(connection, oid)
        rows = estimated_rows(connection, oid)
        built = list(of_last_build(connection, pipeline))
        _, trend = recall_trend.read(connection, pipeline)
    yield from built
    yield from judge_indexes(pipeline, indexes, rows, runtime.database.vector_schema)
    yield from trend


def judge_indexes(
    pipeline: Pipeline, indexes: Sequence[Index], rows: int, vector_schema: str
) -> Iterator[Finding]:
    """Say which indexes of a target are broken, and whether queries can use one."""
    broken = [
        index
        for index in indexes
        if not index.valid and not index.building and not index.name.startswith(index_build.PREFIX)
    ]
    for index in broken:
        name = quoted(index.schema, index.name)
        left_over = LEFT_OVER.search(index.name) is not None
        yield error(
            f"index {index.name} is invalid: it slows writes, and queries don't use it",
            f"DROP INDEX CONCURRENTLY {name};" if left_over else f"REINDEX INDEX CONCURRENTLY {name};",
        )
    options = pipeline.options
    vector = [
        index
        for index in indexes
        if index.method in ("hnsw", "ivfflat") and (index.valid or index.building) and index.storage is not None
    ]
    wanted = options.index.storage or Storage(options.vector_type.value)
    usable = [index for index in vector if serves(pipeline, index)]
    method = options.index.method
    usable.sort(key=lambda index: (index.storage is not wanted, method not in (None, index.method)))
    if vector and not usable:
        yield warning(
            f"{vector[0].name} uses {vector[0].operator_class}, but the metric is {options.metric.value}",
            _build(vector_schema, pipeline),
        )
    elif usable:
        building = ", being built" if usable[0].building else ""
        yield ok(f"{usable[0].name} ({usable[0].method}, {usable[0].operator_class}{building})")
    elif foreign := [index for index in indexes if index.method not in POSTGRES_METHODS and index not in broken]:
        yield ok(
            f"{foreign[0].name} uses {foreign[0].method}, which isn't part of pgvector, so it isn't judged here",
            "see the documentation of the extension that provides it",
        )
    elif not broken:
        yield _without_index(vector_schema, pipeline, rows)
    yield from missing(pipeline, indexes)


def _without_index(vector_schema: str, pipeline: Pipeline, rows: int) -> Finding:
    seen = f"no vector index: each search scans about {counted(rows, 'vector')}"
    if rows <= EXACT_SCAN_LIMIT_ROWS:
        return ok(seen)
    return ok(seen, _build(vector_schema, pipeline))


def _build(vector_schema: str, pipeline: Pipeline) -> str:
    shape = Shape(pipeline, vector_schema)
    storage = _fitting(storage_of(shape), pipeline.spec.dimensions)
    if storage is None:
        return f"indexes support at most {MAX_INDEXED_DIMENSIONS[Storage.BIT]:,} dimensions: use fewer"
    target = quoted(pipeline.target_schema, pipeline.target_table)
    family = quoted(vector_schema, operator_class(pipeline.options.metric, storage))
    return f"CREATE INDEX CONCURRENTLY ON {target} USING hnsw ({indexed(shape, storage).as_string()} {family});"


def _fitting(wanted: Storage, dimensions: int) -> Storage | None:
    """The first kind of index, from the most precise one that is wanted, that accepts so many dimensions."""
    kinds = list(Storage)
    fitting = (kind for kind in kinds[kinds.index(wanted) :] if dimensions <= MAX_INDEXED_DIMENSIONS[kind])
    return next(fitting, None)
