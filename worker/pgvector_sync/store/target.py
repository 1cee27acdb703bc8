"""Composes the statements that read and write a pipeline's target; `rows` runs them. Pure: needs no connection."""

from __future__ import annotations

from psycopg import sql

from pgvector_sync.database.statements import statement
from pgvector_sync.store import stored
from pgvector_sync.store.shape import TARGET, Shape, composed_once, key_json, key_value, name


@composed_once
def open_to_writes(shape: Shape) -> sql.Composed:
    return statement("target.open_to_writes").format(target=shape.target)


@composed_once
def reusable(shape: Shape) -> sql.Composed:
    relation = stored.relation(shape)
    return statement("target.reusable").format(stored=relation, vector=shape.vector, **shape.zeros)


@composed_once
def known(shape: Shape) -> sql.Composed:
    return statement("target.known").format(stored=stored.relation(shape))


@composed_once
def write(shape: Shape) -> sql.Composed:
    values = (key_value(i, column, sql.SQL("v.key")) for i, column in enumerate(shape.pipeline.source.key))
    return statement("target.write").format(
        target=shape.target,
        key_columns=shape.columns(),
        key_values=sql.SQL(", ").join(values),
        vector=shape.vector,
        column_type=shape.column_type,
    )


@composed_once
def trim(shape: Shape) -> sql.Composed:
    return statement("target.trim").format(**shape.fragments)


@composed_once
def remove(shape: Shape) -> sql.Composed:
    return statement("target.remove").format(**shape.fragments)


@composed_once
def remove_orphans(shape: Shape) -> sql.Composed:
    return statement("target.remove_orphans").format(**shape.fragments)


def lock_page(shape: Shape, *, from_start: bool) -> sql.Composed:
    """Composes the statement that locks the rows of the target after `%(after)s`."""
    return statement("target.lock_page").format(
        target=shape.target,
        key_json=key_json(shape.pipeline.source, TARGET, name),
        after=shape.after(TARGET, from_start=from_start),
        key_columns_target=shape.columns(TARGET),
    )
