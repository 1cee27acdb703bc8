"""A table that has rows of its own: an ordinary one, or a partition. Imports little, because `health` needs it."""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database.statements import part


def rows() -> sql.SQL:
    """Returns the expression for the estimated rows of the table `leaf` of a query's FROM."""
    return part("leaf.rows")
