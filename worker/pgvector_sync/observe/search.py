"""Search: embed the query and read the nearest chunks, joined to the source so that deleted rows never show."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from pgvector_sync.database import limit_statements
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Metric, Purpose
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runtime import Runtime, page_limit
from pgvector_sync.store import grants, pipelines, search
from pgvector_sync.store.rows import Vector32
from pgvector_sync.store.search import Neighbour
from pgvector_sync.store.shape import Shape


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk near the query. `distance` is pgvector's for the pipeline's metric: smaller is nearer."""

    key: Key
    chunk_no: int
    distance: float
    similarity: float
    """Larger is nearer. Cosine: 1 - distance. L2: 1 / (1 + distance). Inner product: the product itself."""
    text: str


def similarity(metric: Metric, distance: float) -> float:
    """Convert pgvector's distance so that larger is nearer. Its `<#>` is the negative inner product."""
    if metric is Metric.COSINE:
        return 1.0 - distance
    if metric is Metric.L2:
        return 1.0 / (1.0 + distance)
    return -distance


def nearest(runtime: Runtime, name: str, query: str, *, k: int) -> list[Hit]:
    """Return the `k` nearest chunks, nearest first.

    Raises Refused for an unknown pipeline, a blank query or a slow search, and ProviderError.
    """
    if not query.strip():
        raise Refused("the query is blank", hint="pass the text to search for")
    with runtime.database.transaction(read_only=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        grants.require_sole_author(connection)
    embedder = runtime.embedder(pipeline.provider)
    embedder.prepare(
        pipeline.query_spec
    )  # work done once per process doesn't count towards the provider's timeout
    deadline = Deadline.after(runtime.settings.provider_timeout)
    vector = embedder.embed([query], pipeline.query_spec, purpose=Purpose.QUERY, deadline=deadline).vectors[0]
    shape = Shape(pipeline, runtime.database.vector_schema)
    try:
        neighbours = _read(runtime, shape, vector, k)
    except psycopg.errors.QueryCanceled:
        raise Refused(
            f"searching {name} took longer than {page_limit(runtime).total_seconds():g} s",
            hint="build an index on its target (`pgvector-sync doctor` shows the statement); if the text "
            "expression is slow, see PGVECTOR_SYNC_ROW_TIMEOUT in docs/configuration.md",
        ) from None
    return [
        Hit(
            near.key,
            near.chunk_no,
            near.distance,
            similarity(pipeline.options.metric, near.distance),
            near.text,
        )
        for near in neighbours
    ]


def _read(runtime: Runtime, shape: Shape, vector: Vector32, k: int) -> list[Neighbour]:
    with runtime.database.transaction(read_only=True) as connection:
        limit_statements(connection, page_limit(runtime))
        return search.nearest(connection, shape, vector, limit=k)
