"""What is stored for a key: the relation that all reading statements join instead of the target.

Statements that lock or write use `Shape.target`, the table. Pure: needs no connection.
"""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database.statements import part
from pgvector_sync.store.shape import Shape, composed_once, name

STORED = sql.Identifier("pgvector_sync_stored")
"""The alias of the relation."""


@composed_once
def relation(shape: Shape) -> sql.Composed:
    """Composes the relation: key columns, chunk_no, chunk, embedding, fingerprint, model, embedded_at."""
    return part("stored.relation").format(target=shape.target, key_columns=shape.columns())


@composed_once
def of_row(shape: Shape) -> sql.Composed:
    """Composes the condition that STORED belongs to the current source row of a statement."""
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(shape.source, name(column.name), STORED, name(column.name))
        for column in shape.pipeline.source.key
    )


def fragments(shape: Shape) -> dict[str, sql.Composable]:
    """Returns the fragments of reading statements: those of the shape, the relation and its two conditions."""
    return {
        **shape.fragments,
        "stored": relation(shape),
        "stored_of_key": shape.match(STORED),
        "stored_of_row": of_row(shape),
    }
