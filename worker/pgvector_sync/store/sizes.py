"""How many rows a table has: counted where they are few, estimated beyond."""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement

ALL_ROWS = sql.SQL("true")


def count_up_to(
    connection: Connection, relation: sql.Identifier, *, limit: int, wanted: sql.Composable = ALL_ROWS
) -> int:
    """The rows that the condition accepts, counted no further than `limit`. Percent signs are doubled."""
    query = statement("sizes.count_up_to").format(relation=relation, wanted=wanted)
    return int(one(connection, query, {"limit": limit})["rows"])


def estimate(connection: Connection, relation: sql.Identifier, wanted: sql.Composable) -> int:
    """The planner's estimate of the same."""
    plan = one(connection, statement("sizes.estimate").format(relation=relation, wanted=wanted), {})["QUERY PLAN"]
    return int(plan[0]["Plan"]["Plan Rows"])


def estimated_rows(connection: Connection, oid: int) -> int:
    """As VACUUM or ANALYZE last counted them; 0 for a table that is gone, or never analyzed."""
    row = connection.execute(statement("sizes.estimated_rows"), {"oid": oid}).fetchone()
    return 0 if row is None else int(row["rows"])
