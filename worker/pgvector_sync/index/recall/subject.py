"""What is measured: the index, the vectors that are compared, the queries and the settings.

Refuses what can't be measured, and says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.index.recall.choice import MAX_VALUE, iterates, settings_of, usable_storages
from pgvector_sync.index.recall.report import DIAL, RecallRequest, Setting, Source
from pgvector_sync.index.recall.statistics import Answer
from pgvector_sync.model import Method, Pipeline, Storage
from pgvector_sync.model.search import vector_text
from pgvector_sync.store import grants, index_status, pipelines, recall, sizes, trust
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.conditions import Condition, require_valid
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.recall import Compared, Query, Session
from pgvector_sync.store.shape import Shape

READ_ROWS = 20_000
"""How many rows are read at least to choose queries at random."""
READ_PER_QUERY = 50


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and what was found so far."""

    pipeline: Pipeline
    compared: Compared
    target: int
    """The OID of the pipeline's target."""
    index: VectorIndex
    rows: int
    queries: Sequence[Query]
    source: Source
    settings: Sequence[Setting]
    planned: frozenset[Setting]
    """Those with which the planner uses the index by itself."""
    iterates: bool
    answers: dict[Setting, list[Answer]] = field(default_factory=dict)
    spread: list[float] = field(default_factory=list)
    """Per query, how much farther the last true neighbour is than the first."""

    @property
    def name(self) -> str:
        return self.pipeline.name


def look(connection: Connection, vector_schema: str, name: str, request: RecallRequest) -> Subject:
    """Find out what is measured, and choose the queries. Raises Refused if nothing can be measured."""
    pipeline = pipelines.require_pipeline(connection, name)
    grants.require_sole_author(connection)
    shape = Shape(pipeline, vector_schema)
    session = recall.session(connection)
    if not session.counted:
        raise Refused("track_counts is off, so nothing proves which searches use the index", hint="turn it on")
    condition = None if request.where is None else Condition.with_params(request.where, None)
    trust.require_trusted(connection, pipeline, whole=condition is not None)
    if condition is not None:
        require_valid(connection, shape, condition)
    oid = find_relation(connection, pipeline.target_schema, pipeline.target_table)
    if oid is None:
        raise Refused(f"the target {pipeline.target_label} doesn't exist", hint="pgvector-sync doctor")
    compared = Compared(shape, request.k, condition)
    rows = recall.count(connection, compared)
    _require_rows(pipeline, request, rows)
    indexes = index_status.vector_indexes(connection, oid)
    storages = usable_storages(pipeline, indexes)
    queries = _queries(connection, compared, oid, request)
    index, compared, planned = choose(connection, compared, indexes, storages, queries[0], session, request)
    return Subject(
        pipeline=pipeline,
        compared=compared,
        target=oid,
        index=index,
        rows=rows,
        queries=queries,
        source="rows" if request.vectors is None else request.source,
        settings=settings_of(index, session, request),
        planned=planned,
        iterates=iterates(session),
    )


def _require_rows(pipeline: Pipeline, request: RecallRequest, rows: int) -> None:
    if not rows and request.where is not None:
        raise Refused(
            f"no vector of {pipeline.name} meets the condition",
            hint=f"count the rows of {pipeline.source.label} that meet it: {request.where}",
        )
    if not rows:
        raise Refused(
            f"{pipeline.name} has no vectors of {pipeline.spec.model} yet",
            hint=f"pgvector-sync status {pipeline.name} shows how far its backfill is",
        )
    if rows == 1 and request.vectors is None:
        raise Refused(
            f"only one vector of {pipeline.name} may be a neighbour, and a row isn't its own neighbour",
            hint="measure when there are more rows, or with --queries-file",
        )


def _queries(connection: Connection, compared: Compared, oid: int, request: RecallRequest) -> list[Query]:
    if request.vectors is not None:
        dimensions = compared.shape.pipeline.spec.dimensions
        for vector in request.vectors:
            if len(vector) != dimensions:
                raise Refused(
                    f"expected query vectors of {dimensions} dimensions, got {len(vector)}",
                    hint=f"embed the queries for {compared.shape.pipeline.name}",
                )
        return [Query(vector_text(vector)) for vector in request.vectors]
    wanted, estimated = request.queries, sizes.estimated_rows(connection, oid)
    percent = 100 * max(READ_ROWS, READ_PER_QUERY * wanted) / max(estimated, 1)
    found = recall.sample(connection, compared, limit=wanted, seed=request.seed, percent=percent)
    if len(found) < wanted and percent < 100:
        found = recall.sample(connection, compared, limit=wanted, seed=request.seed)
    if not found:
        raise Refused("every vector is all zeros, so none can be a query", hint="pgvector-sync doctor")
    return [Query(vector, key) for key, vector in found]


def choose(
    connection: Connection,
    compared: Compared,
    indexes: Sequence[VectorIndex],
    storages: Sequence[Storage],
    query: Query,
    session: Session,
    request: RecallRequest,
) -> tuple[VectorIndex, Compared, frozenset[Setting]]:
    """Return the index that the planner uses, how it is searched, and with which settings it does so by itself."""
    column = compared.shape.pipeline.options.vector_type.value
    by_name = {index.name: index for index in indexes}
    for storage in storages:
        kind = replace(compared, storage=None if storage.value == column else storage)
        with connection.transaction(force_rollback=True):
            recall.avoid_all_but_indexes(connection)
            used = recall.index_used(connection, kind, query)
        if used is None or by_name[used].method not in list(Method):
            continue
        index = by_name[used]
        planned = set()
        for setting in settings_of(index, session, request):
            use(connection, index, setting, iterative=iterates(session))
            if recall.index_used(connection, kind, query) == used:
                planned.add(setting)
        return index, kind, frozenset(planned)
    names = " and ".join(f"{index.name} (of {index.indexed})" for index in indexes)
    raise Refused(
        f"Postgres can't use {names} for searches of {compared.shape.pipeline.name}",
        hint="a partial index serves only queries that repeat its condition, and one over an expression only "
        f"queries with exactly that expression; pgvector-sync index status {compared.shape.pipeline.name}",
    )


def use(connection: Connection, index: VectorIndex, setting: Setting, *, iterative: bool) -> None:
    recall.use(
        connection, Method(index.method), (setting.name, setting.value), setting.iterative if iterative else None
    )


def avoid_other_method(connection: Connection, index: VectorIndex) -> None:
    """Make an index of the other method look expensive: Postgres would choose between both by the setting."""
    other = Method.IVFFLAT if index.method == Method.HNSW else Method.HNSW
    recall.use(connection, other, (DIAL[other], MAX_VALUE[other]), None)
