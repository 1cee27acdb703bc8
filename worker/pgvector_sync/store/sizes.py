"""Counts the rows of a table up to a limit, or estimates them."""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.store import leaf

ALL_ROWS = sql.SQL("true")


def count_up_to(
    connection: Connection, relation: sql.Identifier, *, limit: int, wanted: sql.Composable = ALL_ROWS
) -> int:
    """Counts the rows that meet `wanted`, up to `limit`. Percent signs must be doubled."""
    query = statement("sizes.count_up_to").format(relation=relation, wanted=wanted)
    return int(one(connection, query, {"limit": limit})["rows"])


def estimate(connection: Connection, relation: sql.Identifier, wanted: sql.Composable) -> int:
    """Returns the planner's estimate of the rows that meet `wanted`."""
    plan = one(connection, statement("sizes.estimate").format(relation=relation, wanted=wanted), {})["QUERY PLAN"]
    return int(plan[0]["Plan"]["Plan Rows"])


def estimated_rows(connection: Connection, oid: int) -> int:
    """Returns the estimated rows of a table that isn't partitioned; 0 if it is missing."""
    query = statement("sizes.estimated_rows").format(leaf_rows=leaf.rows())
    row = connection.execute(query, {"oid": oid}).fetchone()
    return 0 if row is None else int(row["rows"])
