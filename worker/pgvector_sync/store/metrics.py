"""Reads the gauges of /metrics, and the counters that other statements write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement


def samples(connection: Connection, *, limit: int) -> Iterator[dict[str, Any]]:
    """Returns rows whose columns are labels or metrics. Rows of work are counted up to `limit`."""
    queries = (
        statement("metrics.lanes"),
        statement("metrics.dead_letters"),
        statement("metrics.drift"),
        statement("metrics.runs"),
        statement("metrics.usage"),
        statement("metrics.saved"),
        statement("metrics.indexes"),
        statement("metrics.recall"),
        statement("metrics.ticks"),
        statement("metrics.hot_tables"),
        statement("metrics.server"),
    )
    params = {"limit": limit}
    for query in queries:
        yield from connection.execute(query, params)
