"""The check `index`: the indexes of a target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pgvector_sync.model import Metric, Pipeline, VectorType
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.sizes import estimated_rows
from pgvector_sync.store.target_table import Index

EXACT_SCAN_LIMIT_ROWS = 50_000
"""An exact scan of this many vectors takes tens of milliseconds."""
HNSW_LIMIT_DIMENSIONS = {VectorType.VECTOR: 2_000, VectorType.HALFVEC: 4_000}
"""The most dimensions that an HNSW index supports, per type."""
LEFT_OVER = re.compile(r"_cc(new|old)\d*$")
"""Names that an interrupted REINDEX CONCURRENTLY leaves behind; the original index still exists."""
POSTGRES_METHODS = ("btree", "hash", "gist", "spgist", "gin", "brin", "hnsw", "ivfflat")
"""The methods of Postgres and pgvector. Another one, such as `vchordrq` or `diskann`, may find vectors too."""
OPERATOR_CLASS = {Metric.COSINE: "cosine", Metric.L2: "l2", Metric.INNER_PRODUCT: "ip"}


def on_target(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Yields nothing if the target is missing, which the check `target` reports."""
    with runtime.database.transaction(read_only=True) as connection:
        oid = find_relation(connection, pipeline.target_schema, pipeline.target_table)
        if oid is None:
            return
        indexes = target_table.indexes(connection, oid)
        rows = estimated_rows(connection, oid)
    yield from judge_indexes(pipeline, indexes, rows, runtime.database.vector_schema)


def judge_indexes(
    pipeline: Pipeline, indexes: Sequence[Index], rows: int, vector_schema: str
) -> Iterator[Finding]:
    """Say which indexes of a target are broken, and whether queries can use one."""
    broken = [index for index in indexes if not index.valid and not index.building]
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
        if index.method in ("hnsw", "ivfflat") and index not in broken and not index.over_expression
    ]
    family = f"{options.vector_type.value}_{OPERATOR_CLASS[options.metric]}_ops"
    usable = [index for index in vector if OPERATOR_CLASS[options.metric] in index.operator_class.split("_")]
    if vector and not usable:
        yield warning(
            f"{vector[0].name} uses {vector[0].operator_class}, but the metric is {options.metric.value}",
            _build(vector_schema, pipeline, family),
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
        yield _without_index(vector_schema, pipeline, rows, family)


def _without_index(vector_schema: str, pipeline: Pipeline, rows: int, family: str) -> Finding:
    options = pipeline.options
    seen = f"no vector index: each search scans about {rows:,} vectors"
    if rows <= EXACT_SCAN_LIMIT_ROWS:
        return ok(seen)
    if pipeline.spec.dimensions > HNSW_LIMIT_DIMENSIONS[options.vector_type]:
        return ok(
            seen,
            f"HNSW supports at most {HNSW_LIMIT_DIMENSIONS[options.vector_type]:,} dimensions of "
            f'{options.vector_type.value}: use fewer dimensions, or vector_type = "halfvec"',
        )
    return ok(seen, _build(vector_schema, pipeline, family))


def _build(vector_schema: str, pipeline: Pipeline, family: str) -> str:
    operator_class = quoted(vector_schema, family)
    target = quoted(pipeline.target_schema, pipeline.target_table)
    return f"CREATE INDEX CONCURRENTLY ON {target} USING hnsw (embedding {operator_class});"
