"""Search: the rows nearest to a vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgvector import Vector
from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key, Metric
from pgvector_sync.store import stored
from pgvector_sync.store.rows import Vector32
from pgvector_sync.store.shape import Shape, key_json, name
from pgvector_sync.store.stored import STORED
from pgvector_sync.store.trust import require_trusted

OPERATORS: Mapping[Metric, str] = {
    Metric.COSINE: "<=>",
    Metric.L2: "<->",
    Metric.INNER_PRODUCT: "<#>",
}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk near the query. `distance` is pgvector's, for the pipeline's metric."""

    key: Key
    chunk_no: int
    distance: float
    text: str


def nearest(connection: Connection, shape: Shape, vector: Vector32, *, limit: int) -> list[Neighbour]:
    """Returns the chunks nearest to `vector`, of rows that exist and meet `where`. Raises DatabaseRefuses."""
    require_trusted(connection, shape.pipeline)
    # with a filter, pgvector 0.8 then scans its index until enough rows are found
    connection.execute(statement("search.scan_on"))
    rows = connection.execute(_nearest(shape), {"query_vector": Vector(vector), "limit": limit})
    return [
        Neighbour(tuple(row["key"]), row["chunk_no"], float(row["distance"]), row["text"] or "") for row in rows
    ]


def _nearest(shape: Shape) -> sql.Composed:
    return statement("search.nearest").format(
        **stored.fragments(shape),
        key_json=key_json(shape.pipeline.source, STORED, name),
        alias=name(shape.pipeline.source.table),
        operator_schema=name(shape.vector_schema),
        operator=sql.SQL(OPERATORS[shape.pipeline.options.metric]),
        vector=shape.vector,
        column_type=shape.column_type,
    )
