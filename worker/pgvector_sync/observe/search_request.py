"""Checks what is searched for against the pipeline, and reads and writes page tokens."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from datetime import timedelta

from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.model import Metric, Pipeline, VectorType
from pgvector_sync.model.index import LARGEST_HALF
from pgvector_sync.model.search import Hit, QueryVector, Request
from pgvector_sync.store import catalog
from pgvector_sync.store.canonical import canonical_key
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.search import Place, Wanted

MAX_HITS = 1_000
SIMILARITIES = {
    Metric.COSINE: (-1.0, 1.0),
    Metric.L2: (0.0, 1.0),
    Metric.INNER_PRODUCT: (-math.inf, math.inf),
}
"""The least and the greatest similarity under each metric."""


def require_types(*, pipeline: object, query: object, timeout: object = None, where: object = None) -> None:
    """Raises Refused for an argument of a wrong type, such as None from a form that lacks the field."""
    expected: tuple[tuple[str, object, type | tuple[type, ...], str], ...] = (
        ("pipeline", pipeline, str, "pass the pipeline's name"),
        ("query", query, (str, QueryVector), "pass the text to search for, or the result of embed_query"),
        ("timeout", timeout, (timedelta, type(None)), "timeout=timedelta(seconds=5)"),
        ("where", where, (str, type(None)), "pass a condition in SQL"),
    )
    for name, value, kinds, hint in expected:
        if not isinstance(value, kinds):
            kind = kinds if isinstance(kinds, type) else kinds[0]
            raise Refused(f"expected {name} of type {kind.__name__}, got {type(value).__name__}", hint=hint)


def wanted_of(connection: Connection, pipeline: Pipeline, request: Request, condition: Condition | None) -> Wanted:
    """Return what the statement needs. Raises Refused for a value out of range, or an unknown column."""
    if isinstance(request.k, bool) or not isinstance(request.k, int) or not 1 <= request.k <= MAX_HITS:
        raise Refused(
            f"expected k from 1 to {MAX_HITS:,}, got {request.k!r}",
            hint="fetch more rows page by page: after=hits.next",
        )
    return Wanted(
        request.k,
        condition,
        _min_similarity(pipeline, request.min_similarity),
        None if request.after is None else _place(pipeline, request.after),
        None if request.columns is None else _columns(connection, pipeline, request.columns),
    )


def require_comparable(query: QueryVector, pipeline: Pipeline) -> None:
    """Raises Refused unless a query's vector may be compared with those of a pipeline (G16)."""
    if query.model != pipeline.spec.model:
        raise Refused(
            f"the query was embedded for vectors of {query.model}, and {pipeline.name} has {pipeline.spec.model}",
            hint=f"embed it again: sync.embed_query({pipeline.name!r}, …)",
        )
    if len(query.vector) != pipeline.spec.dimensions:
        raise Refused(
            f"expected a query of {pipeline.spec.dimensions} dimensions, got {len(query.vector)}",
            hint=f"embed it again: sync.embed_query({pipeline.name!r}, …)",
        )
    largest = max(map(abs, query.vector))
    if not largest > 0 or not math.isfinite(sum(query.vector)):
        raise Refused("the query's vector is all zeros, or contains NaN or infinity", hint="embed the query again")
    if pipeline.options.vector_type is VectorType.HALFVEC and not may_be_halved(query):
        raise Refused(
            f"the query's vector has a number over {LARGEST_HALF:,.0f}, which a halfvec can't have",
            hint='use vector_type = "vector", or a model whose vectors are normalized',
        )


def may_be_halved(query: QueryVector) -> bool:
    """Whether a halfvec can have all numbers of a query."""
    return max(map(abs, query.vector)) <= LARGEST_HALF


def page_token(model: str, hit: Hit) -> str:
    """Return the token of the page after a hit. It can be part of a URL."""
    content = json.dumps([model, hit.distance, hit.key, hit.chunk_no], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _place(pipeline: Pipeline, token: str) -> Place:
    """Read a page token, which may come from outside. Raises Refused."""
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        model, distance, key, chunk_no = content
        place = Place(float(distance), canonical_key(key, pipeline.source.key), int(chunk_no))
        valid = isinstance(model, str) and math.isfinite(place.distance) and 0 <= place.chunk_no < 2**31
    except (ValueError, TypeError, ArithmeticError, RecursionError, AttributeError):
        valid = False
    if not valid:
        raise Refused("`after` isn't a valid page token", hint="pass `next` of the previous page")
    if model != pipeline.spec.model:
        raise Refused(
            f"the model of {pipeline.name} has changed since the previous page", hint="begin with the first page"
        )
    return place


def _min_similarity(pipeline: Pipeline, least: float | None) -> float:
    if least is None:
        return -math.inf
    low, high = SIMILARITIES[pipeline.options.metric]
    if isinstance(least, bool) or not isinstance(least, int | float) or not low <= least <= high:
        expected = f"from {low:g} to {high:g}" if math.isfinite(high) else "as a number"
        raise Refused(
            f"expected min_similarity {expected} for the metric {pipeline.options.metric}, got {least!r}",
            hint="look at the similarity of some hits first",
        )
    return float(least)


def _columns(connection: Connection, pipeline: Pipeline, columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise Refused("expected a list of columns, got a string", hint=f"columns=[{columns!r}]")
    names = tuple(map(str, columns))
    oid = catalog.find_relation(connection, pipeline.source.schema, pipeline.source.table)
    if oid is not None:
        catalog.require_columns(catalog.describe(connection, oid), names)
    return names
