"""Composes the statements that read a pipeline's source; `rows` runs them. Pure: needs no connection."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvector_sync.database.statements import part, statement
from pgvector_sync.store import stored
from pgvector_sync.store.shape import Shape, composed_once, key_json, name


@composed_once
def now(shape: Shape) -> sql.Composed:
    """Composes a query for text and fingerprint of the row with the key `pgvector_sync_key.key`."""
    return part("source.now").format(row=part("source.row_by_key").format(**shape.fragments))


@composed_once
def now_here(shape: Shape) -> sql.Composed:
    """Composes a query for text and fingerprint of the current source row of a statement."""
    return part("source.now").format(row=part("source.row_here").format(**shape.fragments))


@composed_once
def read(shape: Shape) -> sql.Composed:
    """Composes the statement that reads claimed rows."""
    return statement("source.read").format(**stored.fragments(shape), now=now(shape))


@composed_once
def texts(shape: Shape) -> sql.Composed:
    """Composes the statement that reads texts without the target."""
    return statement("source.texts").format(now=now(shape))


@composed_once
def look(shape: Shape) -> sql.Composed:
    """Composes the statement that reads the current fingerprints."""
    return statement("source.look").format(**stored.fragments(shape), now=now(shape))


def page(shape: Shape, *, from_start: bool, conditions: Sequence[sql.Composable] = ()) -> sql.Composed:
    """Composes the statement that reads the keys after `%(after)s`, and whether they meet all conditions."""
    return statement("source.page").format(
        source=shape.source,
        key_json=key_json(shape.pipeline.source, shape.source, name),
        after=shape.after(shape.source, from_start=from_start),
        key_columns=shape.columns(shape.source),
        filter=sql.SQL(" AND ").join(conditions or [sql.SQL("true")]),
    )


def matching(shape: Shape, conditions: Sequence[sql.Composable]) -> sql.Composed:
    """Composes the statement that reads which keys of a list meet all conditions."""
    return statement("source.matching").format(**shape.fragments, filter=sql.SQL(" AND ").join(conditions))


def is_stale(shape: Shape) -> sql.Composed:
    """Composes a condition on a source row: its vectors aren't those of its current text."""
    return part("source.is_stale").format(**stored.fragments(shape), now_here=now_here(shape))


def is_concerned(shape: Shape) -> sql.Composed:
    """Composes a condition on a source row: a worker may have to process it."""
    return part("source.is_concerned").format(
        **stored.fragments(shape), key_json=key_json(shape.pipeline.source, shape.source, name)
    )


def is_older(shape: Shape) -> sql.Composed:
    """Composes a condition on a source row: its vectors are older than `%(since)s`."""
    return part("source.is_older").format(**stored.fragments(shape))
