"""Reads what `index advise` decides on: rows, history, settings, indexes, a sample, times of exact searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import numpy as np
import psycopg

from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.errors import Refused
from pgvector_sync.index.capacity import Build
from pgvector_sync.index.facts import Existing, Facts
from pgvector_sync.index.known_bugs import newest_of
from pgvector_sync.index.recall.choice import storage_of
from pgvector_sync.index.sampled import Sample, sampled
from pgvector_sync.model import Method, Pipeline, Storage
from pgvector_sync.model.search import QueryVector
from pgvector_sync.store import index_build, index_facts, index_status, search, server, sizes
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.index_facts import ServerSettings
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.search import Wanted
from pgvector_sync.store.shape import Shape

SAMPLED = 4_000
EXACT_SEARCHES = 3
EXACT_LIMIT = timedelta(seconds=2)
"""The longest time of one exact search; there are EXACT_SEARCHES."""
_COUNTED = 100_000
"""Up to so many rows are counted. Above, the planner's estimate is as good."""
_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Read:
    """The facts, and what else the advice is written with."""

    facts: Facts
    settings: ServerSettings
    indexes: tuple[VectorIndex, ...]
    """All vector indexes of the target, whether searches can use them or not."""
    queries: tuple[QueryVector, ...]
    """Some stored vectors."""
    out_of_line: bool


def read(connection: Connection, shape: Shape) -> Read:
    """Read the facts about a pipeline. Compares all its vectors a few times, each within EXACT_LIMIT.

    Raises Refused if the target or the extension is missing.
    """
    pipeline = shape.pipeline
    oid = find_relation(connection, pipeline.target_schema, pipeline.target_table)
    installed = server.pgvector(connection)
    if oid is None or installed is None:
        raise Refused(f"the target of {pipeline.name} doesn't exist", hint="pgvector-sync doctor")
    rows = sizes.estimated_rows(connection, oid)
    if rows < _COUNTED:
        rows = sizes.count_up_to(connection, shape.target, limit=_COUNTED)
    vectors = _vectors(connection, shape, rows)
    queries = tuple(
        QueryVector(pipeline.name, pipeline.spec.model, pipeline.spec_version, list(map(float, vector)))
        for vector in vectors[:EXACT_SEARCHES]
        if vector.any()
    )
    past = index_facts.history(connection, pipeline.id)
    settings = index_facts.settings(connection)
    indexes = tuple(index_status.vector_indexes(connection, oid))
    facts = Facts(
        pipeline=pipeline.name,
        vectors=rows,
        source_rows=past.last_source_rows,
        dimensions=pipeline.spec.dimensions,
        metric=pipeline.options.metric,
        column=Storage(pipeline.options.vector_type.value),
        sample=_sample(vectors, pipeline),
        growth_per_day=past.growth_per_day,
        churn_per_day=past.churn_per_day,
        exact=_exact(connection, shape, queries),
        exact_limit=EXACT_LIMIT,
        cache=settings.effective_cache_size,
        pgvector=newest_of(installed.version, installed.files),
        bits=installed.bits,
        build=_last_build(connection, pipeline),
        existing=tuple(usable(pipeline, indexes)),
    )
    return Read(facts, settings, indexes, queries, index_facts.is_out_of_line(connection, oid))


def _vectors(connection: Connection, shape: Shape, rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    read = index_facts.sample(connection, shape, rows=rows, limit=SAMPLED)
    return np.array(
        [np.asarray(each.to_numpy() if hasattr(each, "to_numpy") else each) for each in read], dtype=np.float32
    )


def _sample(vectors: np.ndarray[Any, np.dtype[np.float32]], pipeline: Pipeline) -> Sample:
    return sampled(vectors, pipeline.options.metric, candidates=search.BIT_CANDIDATES)


def _last_build(connection: Connection, pipeline: Pipeline) -> Build | None:
    """Return the last build of an HNSW index of the pipeline, if its time was measured."""
    for build in index_build.list_builds(connection, pipeline=pipeline.name):
        once = build.state == "done" and build.attempts == 1 and build.plan.method is Method.HNSW
        if once and build.rows and build.started_at is not None and build.ended_at is not None:
            return Build(build.rows, build.ended_at - build.started_at)
    return None


def usable(pipeline: Pipeline, indexes: Sequence[VectorIndex]) -> list[Existing]:
    """Return the valid indexes that searches of the pipeline can use."""
    found = []
    for index in indexes:
        storage = storage_of(pipeline, index) if index.method in tuple(Method) else None
        if storage is None or not index.valid or index.condition is not None:
            continue
        found.append(
            Existing(
                schema=index.schema,
                name=index.name,
                method=Method(index.method),
                storage=storage,
                m=index.parameter("m"),
                ef_construction=index.parameter("ef_construction"),
                lists=index.parameter("lists"),
            )
        )
    return found


def _exact(connection: Connection, shape: Shape, queries: Sequence[QueryVector]) -> timedelta | None:
    """Return the median time of searches that compare all vectors; None if one takes too long."""
    took = []
    for query in queries:
        begin = perf_counter()
        try:
            with connection.transaction():
                limit_statements(connection, EXACT_LIMIT)
                search.nearest(connection, shape, query, Wanted(_NEIGHBOURS), exact=True)
        except psycopg.errors.QueryCanceled:
            return None
        took.append(timedelta(seconds=perf_counter() - begin))
    return sorted(took)[len(took) // 2] if took else None
