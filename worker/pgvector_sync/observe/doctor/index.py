"""The indexes on a target."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgvector_sync.model import Metric, Pipeline, VectorType
from pgvector_sync.observe.doctor.check import Finding, error, ok, quoted, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.store import target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.sizes import estimated_rows

EXACT_UP_TO_ROWS = 50_000
"""An exact scan of so many vectors takes some tens of milliseconds."""
LARGEST = {VectorType.VECTOR: 2_000, VectorType.HALFVEC: 4_000}
"""Dimensions that an HNSW index takes."""
LEFT_OVER = re.compile(r"_cc(new|old)\d*$")
"""What an interrupted REINDEX CONCURRENTLY leaves behind; the index itself still stands beside it."""
OPERATOR_CLASS = {Metric.COSINE: "cosine", Metric.L2: "l2", Metric.INNER_PRODUCT: "ip"}


def on_target(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Nothing, where there is no target: the check `target` says so."""
    with runtime.database.transaction(read_only=True) as connection:
        oid = find_relation(connection, pipeline.target_schema, pipeline.target_table)
        if oid is None:
            return
        found = target_table.indexes(connection, oid)
        rows = estimated_rows(connection, oid)
    broken = [index for index in found if not index.valid and not index.building]
    for index in broken:
        name = quoted(index.schema, index.name)
        left_over = LEFT_OVER.search(index.name) is not None
        yield error(
            f"index {index.name} is invalid: it costs writes, and no query uses it",
            f"DROP INDEX CONCURRENTLY {name};" if left_over else f"REINDEX INDEX CONCURRENTLY {name};",
        )
    options = pipeline.options
    vector = [index for index in found if index.method in ("hnsw", "ivfflat") and index not in broken]
    family = f"{options.vector_type.value}_{OPERATOR_CLASS[options.metric]}_ops"
    usable = [index for index in vector if OPERATOR_CLASS[options.metric] in index.operator_class.split("_")]
    if vector and not usable:
        yield warning(
            f"{vector[0].name} serves {vector[0].operator_class}; searches order by {options.metric.value}",
            _build(runtime, pipeline, family),
        )
    elif usable:
        building = ", being built" if usable[0].building else ""
        yield ok(f"{usable[0].name} ({usable[0].method}, {usable[0].operator_class}{building})")
    elif not broken:
        yield _none(runtime, pipeline, rows, family)


def _none(runtime: Runtime, pipeline: Pipeline, rows: int, family: str) -> Finding:
    options = pipeline.options
    seen = f"no vector index; an exact scan reads about {rows:,} vectors"
    if rows <= EXACT_UP_TO_ROWS:
        return ok(seen)
    if pipeline.spec.dimensions > LARGEST[options.vector_type]:
        return ok(
            seen,
            f"HNSW takes up to {LARGEST[options.vector_type]:,} dimensions of {options.vector_type.value}; "
            'fewer dimensions or vector_type = "halfvec" would allow an index',
        )
    return ok(seen, _build(runtime, pipeline, family))


def _build(runtime: Runtime, pipeline: Pipeline, family: str) -> str:
    operator_class = quoted(runtime.database.vector_schema, family)
    target = quoted(pipeline.target_schema, pipeline.target_table)
    return f"CREATE INDEX CONCURRENTLY ON {target} USING hnsw (embedding {operator_class});"
