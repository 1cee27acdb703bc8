"""Search: the rows nearest to a vector, and how Postgres finds them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import composed_once, part, statement
from pgvector_sync.model import Key, Metric, Pipeline, Storage
from pgvector_sync.model.search import Hit, QueryVector
from pgvector_sync.store import stored
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.index_ddl import contents, indexed, storage_in
from pgvector_sync.store.shape import Shape, key_json, key_value, name
from pgvector_sync.store.stored import STORED

OPERATORS: Mapping[Metric, str] = {
    Metric.COSINE: "<=>",
    Metric.L2: "<->",
    Metric.INNER_PRODUCT: "<#>",
}
_SIMILARITY: Mapping[Metric, str] = {
    Metric.COSINE: "1 - pgvector_sync_distance",
    Metric.L2: "1 / (1 + pgvector_sync_distance)",
    Metric.INNER_PRODUCT: "- pgvector_sync_distance",
}
"""From pgvector's distance, so that larger is nearer. Its `<#>` is the negative inner product."""
CANDIDATES = 2
"""How many rows are read per row that is wanted, since an index returns them in about the right order."""
BIT_CANDIDATES = 10
"""The same for bits, whose order is rougher; at least `hnsw.ef_search` rows are read."""
LEAST_EF_SEARCH = 40
"""pgvector's default of `hnsw.ef_search`."""
_HAMMING = "<~>"
_QUERY = "%(query_vector)s::{}::{}"
_PAGE = sql.Identifier("pgvector_sync_page")
_LONG_VECTOR = re.compile(r"'\[[^\]']{80,}\]'")
_ORDERED_BY = "Order By"
"""In a plan, what only a scan of a vector index has."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a row in the order of all rows."""

    distance: float
    key: Key
    chunk_no: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are wanted, and what of them."""

    limit: int
    condition: Condition | None = None
    min_similarity: float = -math.inf
    after: Place | None = None
    columns: Sequence[str] | None = None
    """The columns to return; None: the text."""
    through: Storage | None = None
    """What the index contains that chooses the candidates. None: the column, with or without an index."""
    ef_search: int = 0
    """`hnsw.ef_search`: as many rows are read through bits, so that it governs their recall too."""

    @property
    def candidates(self) -> int:
        """How many rows are read before they are sorted by the exact distance."""
        return candidates(self.limit, self.through, self.ef_search)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a search needs to know about the database."""

    vector_schema: str
    """The schema of pgvector."""
    through: Storage | None
    """What the target's index contains, if it is an expression."""
    ef_search: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    spec_version: int | None
    """The version of the pipeline in the search's snapshot; None if the pipeline was removed."""
    candidates: int
    """How many rows met all conditions except the similarity; not much more than those of `Wanted`."""
    hits: tuple[Hit, ...]


def prepare(connection: Connection, pipeline: Pipeline, wanted: Wanted) -> Prepared | None:
    """Makes the settings for a search, until the end of the transaction.

    Returns None if pgvector isn't installed.
    """
    column = Storage(pipeline.options.vector_type.value)
    declared = pipeline.options.index.storage or column
    params = {
        "candidates": CANDIDATES * wanted.limit,
        "bit_candidates": BIT_CANDIDATES * wanted.limit,
        "ef_search": pipeline.search_effort.ef_search,
        "probes": pipeline.search_effort.probes,
        "least_ef_search": LEAST_EF_SEARCH,
        # the declared one, else the most precise one that exists
        "storages": list(dict.fromkeys((declared.value, column.value, Storage.HALFVEC.value, Storage.BIT.value))),
        "target_schema": pipeline.target_schema,
        "target_table": pipeline.target_table,
        "operator": OPERATORS[pipeline.options.metric],
    }
    row = connection.execute(_settings(), params).fetchone()
    if row is None:
        return None
    storage = storage_in(row)
    through = None if storage is column else storage
    return Prepared(row["vector_schema"], through, row["ef_search"])


@composed_once
def _settings() -> sql.Composed:
    return statement("search.settings").format(contents=contents())


def planned(
    connection: Connection, shape: Shape, query: QueryVector, wanted: Wanted, prepared: Prepared
) -> Wanted:
    """Lets an index over an expression choose the candidates, if the planner uses it.

    Without the index, the order of the expression would be as slow as the exact one, and miss rows.
    """
    approximate = replace(wanted, through=prepared.through, ef_search=prepared.ef_search)
    return approximate if prepared.through and is_approximate(connection, shape, query, approximate) else wanted


def candidates(limit: int, storage: Storage | None, ef_search: int) -> int:
    """How many rows are read through an index, before they are sorted by the exact distance.

    storage: what the index contains; None: the column.
    """
    return max(BIT_CANDIDATES * limit, ef_search) if storage is Storage.BIT else CANDIDATES * limit


def nearest(
    connection: Connection, shape: Shape, query: QueryVector, wanted: Wanted, *, exact: bool = False
) -> Found:
    """Returns the rows nearest to the query. Call `prepare` and `trust.require_trusted` before.

    exact: compare every vector that meets the conditions, instead of those that an index returns.
    """
    rows = connection.execute(_nearest(shape, wanted, exact=exact), _params(shape, query, wanted)).fetchall()
    hits = tuple(_hit(row, query.model, wanted.columns) for row in rows if row["key"] is not None)
    return Found(rows[0]["spec_version"], rows[0]["candidates"], hits)


def is_approximate(connection: Connection, shape: Shape, query: QueryVector, wanted: Wanted) -> bool:
    """Whether the rows are chosen by a vector index, which may miss some."""
    plan = statement("search.plan").format(search=_nearest(shape, wanted, exact=False))
    [[[root]]] = [row.values() for row in connection.execute(plan, _params(shape, query, wanted))]
    return any(_ORDERED_BY in node for node in _nodes(root["Plan"]))


def explain(connection: Connection, shape: Shape, query: QueryVector, wanted: Wanted) -> list[str]:
    """Runs a search; returns the lines of its plan, without the query's numbers."""
    query_plan = statement("search.explain").format(search=_nearest(shape, wanted, exact=False))
    rows = connection.execute(query_plan, _params(shape, query, wanted))
    return [_LONG_VECTOR.sub("'[…]'", str(line)) for row in rows for line in row.values()]


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _hit(row: Mapping[str, Any], model: str, columns: Sequence[str] | None) -> Hit:
    asked = {} if columns is None else {column: row[_alias(i)] for i, column in enumerate(columns)}
    text = None if columns is not None else row["text"] if row["chunk"] is None else row["chunk"]
    return Hit(tuple(row["key"]), row["chunk_no"], row["distance"], row["similarity"], text, model, asked)


def _params(shape: Shape, query: QueryVector, wanted: Wanted) -> dict[str, Any]:
    params: dict[str, Any] = {
        "query_vector": str(query),  # as text, so that an application's connection needs no adapter
        "model": query.model,
        "pipeline_id": shape.pipeline.id,
        "candidates": wanted.candidates,
        "limit": wanted.limit,
        "min_similarity": wanted.min_similarity,
    }
    if wanted.after is not None:
        params |= {
            "after_distance": wanted.after.distance,
            "after": Jsonb(list(wanted.after.key)),
            "after_chunk": wanted.after.chunk_no,
        }
    return params if wanted.condition is None else params | dict(wanted.condition.params)


def _nearest(shape: Shape, wanted: Wanted, *, exact: bool) -> sql.Composed:
    distance = part("search.distance").format(
        operator_schema=name(shape.vector_schema),
        operator=sql.SQL(OPERATORS[shape.pipeline.options.metric]),
        vector=shape.vector,
        column_type=shape.column_type,
    )
    return statement("search.nearest").format(
        **stored.fragments(shape),
        key_columns=shape.columns(),
        columns_stored=shape.columns(STORED),
        columns_page=shape.columns(_PAGE),
        key_json=key_json(shape.pipeline.source, _PAGE, name),
        same_key=_same_key(shape, sql.Identifier("pgvector_sync_row"), STORED),
        page_of_row=_same_key(shape, shape.source, _PAGE),
        distance=distance,
        order=_order(shape, wanted, distance, exact=exact),
        similarity=sql.SQL(_SIMILARITY[shape.pipeline.options.metric]),
        condition=sql.SQL("true") if wanted.condition is None else wanted.condition.sql,
        after=sql.SQL("true") if wanted.after is None else _after(shape, distance),
        shown=_shown(shape, wanted.columns),
    )


def _order(shape: Shape, wanted: Wanted, distance: sql.Composed, *, exact: bool) -> sql.Composed:
    if exact:  # no index has an order by this expression
        return sql.SQL("({}) + 0").format(distance)
    return distance if wanted.through is None else distance_in_index(shape, wanted.through)


def distance_in_index(shape: Shape, storage: Storage) -> sql.Composed:
    """Composes the distance by which an index over an expression is ordered."""
    bits = storage is Storage.BIT
    return part("search.distance_in_index").format(
        operator_schema=name(shape.vector_schema),
        operator=sql.SQL(_HAMMING if bits else OPERATORS[shape.pipeline.options.metric]),
        indexed=indexed(shape, storage, STORED + sql.SQL(".embedding")),
        query_indexed=indexed(shape, storage, sql.SQL(_QUERY).format(shape.vector, shape.column_type)),
    )


def _after(shape: Shape, distance: sql.Composed) -> sql.Composed:
    key = sql.SQL("%(after)s::pg_catalog.jsonb")
    values = [key_value(i, column, key) for i, column in enumerate(shape.pipeline.source.key)]
    return part("search.after").format(
        distance=distance, columns_stored=shape.columns(STORED), after_key=sql.SQL(", ").join(values)
    )


def _same_key(shape: Shape, left: sql.Composable, right: sql.Composable) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(left, name(column.name), right, name(column.name))
        for column in shape.pipeline.source.key
    )


def _shown(shape: Shape, columns: Sequence[str] | None) -> sql.Composable:
    if columns is None:
        return sql.SQL("({})::pg_catalog.text AS text").format(shape.text)
    return sql.SQL(", ").join(
        sql.SQL("{}.{} AS {}").format(shape.source, name(column), sql.Identifier(_alias(i)))
        for i, column in enumerate(columns)
    )


def _alias(index: int) -> str:
    return f"column_{index}"
