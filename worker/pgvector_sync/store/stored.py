"""What is stored for a key: the relation that all reading statements join, so that none names a target by itself.

What locks or writes names `Shape.target`, the table. Pure: no connection needed.
"""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database.statements import part
from pgvector_sync.store.shape import Shape, composed_once, name

STORED = sql.Identifier("pgvector_sync_stored")
"""The relation's alias."""


@composed_once
def relation(shape: Shape) -> sql.Composed:
    """Key columns, chunk_no, chunk, embedding, fingerprint, model and embedded_at, under the alias STORED."""
    return part("stored.relation").format(target=shape.target, key_columns=shape.columns())


@composed_once
def of_row(shape: Shape) -> sql.Composed:
    """A condition: stored for the source row that the statement is at."""
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(shape.source, name(column.name), STORED, name(column.name))
        for column in shape.pipeline.source.key
    )


def fragments(shape: Shape) -> dict[str, sql.Composable]:
    """What reading statements are composed of: those of the shape, and the relation with its two conditions."""
    return {
        **shape.fragments,
        "stored": relation(shape),
        "stored_of_key": shape.match(STORED),
        "stored_of_row": of_row(shape),
    }
