"""Counts and samples the rows on which an estimate is based."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key
from pgvector_sync.store.shape import Shape, key_json, name


def count(connection: Connection, shape: Shape, conditions: Sequence[sql.Composable], *, text_limit: int) -> int:
    """Returns how many of the rows that meet `where` also meet all conditions."""
    query = statement("samples.count").format(**_parts(shape, conditions))
    return int(one(connection, query, _params(shape, text_limit))["rows"])


def sample(
    connection: Connection, shape: Shape, conditions: Sequence[sql.Composable], *, limit: int, text_limit: int
) -> list[Key]:
    """Returns the keys of some of those rows, each with the same probability."""
    query = statement("samples.sample").format(**_parts(shape, conditions))
    rows = connection.execute(query, {**_params(shape, text_limit), "limit": limit})
    return [tuple(row["key"]) for row in rows]


def sample_blocks(
    connection: Connection,
    shape: Shape,
    conditions: Sequence[sql.Composable],
    *,
    percent: float,
    limit: int,
    text_limit: int,
) -> list[tuple[Key, bool]]:
    """Returns the keys of rows in some blocks, each with whether its row meets `where` and all conditions."""
    query = statement("samples.sample_blocks").format(**_parts(shape, conditions))
    params = {**_params(shape, text_limit), "percent": percent, "limit": limit}
    return [(tuple(row["key"]), row["matches"]) for row in connection.execute(query, params)]


def _parts(shape: Shape, conditions: Sequence[sql.Composable]) -> dict[str, sql.Composable]:
    return {
        "source": shape.source,
        "wanted": shape.wanted,
        "filter": sql.SQL(" AND ").join(conditions),
        "key_json": key_json(shape.pipeline.source, shape.source, name),
    }


def _params(shape: Shape, text_limit: int) -> dict[str, object]:
    return {"spec": shape.pipeline.spec.digest, "text_limit": text_limit}
