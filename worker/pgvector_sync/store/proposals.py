"""What `init` looks at to propose a pipeline: tables, columns and their statistics."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.store import leaf


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column, and what the statistics say about it."""

    name: str
    type: str
    """As format_type prints it."""
    is_text: bool
    """Whether its type, or that of its domain, is a string type."""
    generated: bool
    avg_width: int | None = None
    """Bytes. None if the table hasn't been analyzed."""
    n_distinct: float | None = None
    """As in pg_stats: the number of distinct values, or minus their share of the rows."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that could be a source."""

    schema: str
    table: str
    rows: int
    """Estimated."""
    bytes: int
    text_columns: int


def columns(connection: Connection, oid: int) -> tuple[ColumnFacts, ...]:
    """Returns the columns of a table, in order."""
    return tuple(ColumnFacts(**row) for row in connection.execute(statement("proposals.columns"), {"oid": oid}))


def relations(connection: Connection) -> list[tuple[str, str]]:
    """Returns (schema, name) of all tables, views and foreign tables of users, those in public first."""
    return [(row["schema"], row["table"]) for row in connection.execute(statement("proposals.relations"))]


def tables(connection: Connection) -> list[TableFacts]:
    """Returns the readable tables that have text, the largest first."""
    query = statement("proposals.tables").format(leaf_rows=leaf.rows())
    return [TableFacts(**row) for row in connection.execute(query)]
