"""Which index is measured, with which settings. Refuses what can't be measured, and says what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector_sync.errors import Refused
from pgvector_sync.index.pages import DEFAULT_LISTS
from pgvector_sync.index.recall.report import DIAL, ITERATIVE, Iterative, RecallRequest, Setting
from pgvector_sync.model import Method, Pipeline, Storage
from pgvector_sync.store.index_ddl import operator_class
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.recall import Session
from pgvector_sync.store.search import candidates

MAX_K = 1_000
MAX_QUERIES = 10_000
SWEEP_EF_SEARCH = (10, 20, 40, 60, 80, 120, 160, 240, 400, 800)
MAX_VALUE = {Method.HNSW: 1_000, Method.IVFFLAT: 32_768}
"""HNSW_MAX_EF_SEARCH and IVFFLAT_MAX_LISTS of pgvector."""
ITERATIVE_SINCE = (0, 8)


def require_sound(request: RecallRequest) -> None:
    """Raises Refused for a value out of range."""
    if not 1 <= request.k <= MAX_K:
        raise Refused(f"expected k from 1 to {MAX_K:,}, got {request.k:,}", hint="10 is usual")
    if not 1 <= request.queries <= MAX_QUERIES:
        raise Refused(f"expected 1 to {MAX_QUERIES:,} queries, got {request.queries:,}", hint="200 is usual")
    if request.vectors is not None and not request.vectors:
        raise Refused("there are no query vectors", hint="without them, vectors of random rows are the queries")
    if request.target is not None and not 0 < request.target < 1:
        raise Refused(f"expected a target between 0 and 1, got {request.target:g}", hint="0.95 is usual")
    if request.database_share is not None and not 0 < request.database_share <= 1:
        raise Refused(
            f"expected a database_share above 0 and at most 1, got {request.database_share:g}",
            hint="0.5 pauses as long as it measures",
        )


def usable_storages(pipeline: Pipeline, indexes: Sequence[VectorIndex]) -> tuple[Storage, ...]:
    """Return what the pipeline's indexes contain, the declared kind first. Raises Refused if none can be used."""
    valid = [index for index in indexes if index.valid and not index.building]
    ours = [index for index in valid if index.method in list(Method)]
    found = {storage_of(pipeline, index) for index in ours}
    column = Storage(pipeline.options.vector_type.value)
    order = dict.fromkeys((pipeline.options.index.storage or column, column, Storage.HALFVEC, Storage.BIT))
    if usable := tuple(storage for storage in order if storage in found):
        return usable
    hint = f"pgvector-sync index status {pipeline.name}"
    if ours:
        names = " and ".join(f"{index.name} ({index.operator_class} of {index.indexed})" for index in ours)
        raise Refused(
            f"searches of {pipeline.name} by {pipeline.options.metric.value} can't use {names}", hint=hint
        )
    if valid:
        raise Refused(
            f"{valid[0].name} uses {valid[0].method}, which isn't part of pgvector: its recall can't be measured",
            hint="see the documentation of the extension that provides it",
        )
    if indexes:
        state = "is being built" if indexes[0].building else "is invalid"
        raise Refused(f"{indexes[0].name} {state}, so searches don't use it", hint=hint)
    raise Refused(
        f"{pipeline.name} has no vector index: each search compares every vector, so its recall is 1",
        hint=f"find out whether it needs one: pgvector-sync index advise {pipeline.name}",
    )


def storage_of(pipeline: Pipeline, index: VectorIndex) -> Storage | None:
    """Return what an index contains; None if searches by the pipeline's metric can't use it."""
    for storage in Storage:
        of_column = storage.value == pipeline.options.vector_type.value
        if (
            index.operator_class == operator_class(pipeline.options.metric, storage)
            and index.over_expression is not of_column
        ):
            return storage
    return None


def settings_of(index: VectorIndex, session: Session, request: RecallRequest) -> tuple[Setting, ...]:
    """Return the settings to measure: those in effect, or a range of them."""
    method = Method(index.method)
    if request.values is not None:
        values: Sequence[int] = request.values
    elif request.sweep:
        values = _sweep(index, request.k)
    else:
        values = [session.ef_search if method is Method.HNSW else session.probes]
    for value in values:
        if not 1 <= value <= MAX_VALUE[method]:
            raise Refused(
                f"expected {DIAL[method]} from 1 to {MAX_VALUE[method]:,}, got {value:,}",
                hint="these are pgvector's limits",
            )
    return tuple(
        Setting(DIAL[method], value, iterative)
        for value in values
        for iterative in _iterative(index, session, request, value)
    )


def iterates(session: Session) -> bool:
    """Whether this pgvector can scan iteratively."""
    return tuple(int(part) for part in session.version.split(".")[:2]) >= ITERATIVE_SINCE


def _iterative(index: VectorIndex, session: Session, request: RecallRequest, value: int) -> Sequence[Iterative]:
    """Return the modes to measure with a value.

    A sweep has several only where the index alone may return too few rows: if a condition removes some, or more
    candidates are ranked again than `hnsw.ef_search`. Otherwise the modes differ in nothing but noise.
    """
    method = Method(index.method)
    if not iterates(session):
        return ["off"]
    possible = [mode for mode in ITERATIVE if method is Method.HNSW or mode != "strict_order"]
    if request.iterative is not None or request.sweep:
        more = index.over_expression and value < candidates(request.k, index.storage, value)
        several = request.where is not None or (more and method is Method.HNSW)
        wanted = request.iterative or (possible if several else ["off"])
        return [mode for mode in possible if mode in wanted] or ["off"]
    current = session.hnsw_iterative if method is Method.HNSW else session.ivfflat_iterative
    return [mode for mode in possible if mode == current] or ["off"]


def _sweep(index: VectorIndex, k: int) -> Sequence[int]:
    if index.method == Method.HNSW:
        # fewer candidates than wanted rows find too few by construction
        return [value for value in SWEEP_EF_SEARCH if value > k] or [MAX_VALUE[Method.HNSW]]
    lists = index.parameter("lists") or DEFAULT_LISTS
    return [2**power for power in range(lists.bit_length()) if 2**power < lists] + [lists]
