"""Counting or estimating the rows that a backfill reads."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from pgvector_sync.database import Connection, limit_statements, reading
from pgvector_sync.model import Source
from pgvector_sync.store import sizes
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.shape import expression, name

COUNT_LIMIT_ROWS = 100_000
COUNT_TIMEOUT = timedelta(seconds=2)


def count(connection: Connection, source: Source, table: Table, where: str | None) -> tuple[int, bool]:
    """Return how many rows match `where`, and whether that is exact rather than the planner's estimate.

    Counts up to COUNT_LIMIT_ROWS and for at most COUNT_TIMEOUT.
    """
    relation, wanted = name(source.schema, source.table), expression(where or "true")
    try:
        with reading(connection):  # its end also lifts the limit
            limit_statements(connection, COUNT_TIMEOUT)
            counted = sizes.count_up_to(connection, relation, wanted=wanted, limit=COUNT_LIMIT_ROWS + 1)
    except (psycopg.errors.QueryCanceled, psycopg.DataError):
        counted = COUNT_LIMIT_ROWS + 1 if where is None else 0
    else:
        if counted <= COUNT_LIMIT_ROWS:
            return counted, True
    if where is None:
        return max(counted, table.estimated_rows), False
    with reading(connection):
        return max(counted, sizes.estimate(connection, relation, wanted)), False
