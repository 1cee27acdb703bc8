"""Which rows are fresh, in one snapshot: as counts, and as the guarantee G1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Key
from pgvector_sync.store import stored
from pgvector_sync.store.shape import Shape, key_json, name
from pgvector_sync.store.source import now_here
from pgvector_sync.store.stored import STORED
from pgvector_sync.store.trust import require_trusted


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of a source's rows: all, fresh ones, and those still to backfill."""

    rows: int
    fresh: int
    to_backfill: int
    """Beyond the watermark of a running backfill."""


def count(connection: Connection, shape: Shape, *, text_limit: int) -> Counts:
    """Counts the rows of a source, by reading every row. Raises DatabaseRefuses."""
    require_trusted(connection, shape.pipeline)
    query = statement("coverage.exact").format(
        **stored.fragments(shape), to_backfill=to_backfill(shape), now_here=now_here(shape)
    )
    return Counts(**one(connection, query, params(shape, text_limit)))


def not_covered(connection: Connection, shape: Shape, *, text_limit: int) -> list[Key]:
    """Returns keys that violate G1: neither fresh, nor in outbox, nor in work, nor beyond a running backfill.

    The result is always []. It is one statement, so one snapshot.
    """
    rows = connection.execute(not_covered_query(shape), params(shape, text_limit))
    return [tuple(row["key"]) for row in rows]


def not_covered_query(shape: Shape) -> sql.Composed:
    """Composes G1 as one query. `params` returns its values."""
    source = shape.pipeline.source
    return statement("coverage.not_covered").format(
        **stored.fragments(shape),
        to_backfill=to_backfill(shape),
        now_here=now_here(shape),
        key_source=key_json(source, shape.source, name),
        key_stored=key_json(source, STORED, name),
    )


def to_backfill(shape: Shape) -> sql.Composed:
    """Composes a condition on a source row: it is beyond the watermark of a running backfill."""
    return part("coverage.to_backfill").format(beyond=shape.compare(shape.source, ">", sql.SQL("r.watermark")))


def params(shape: Shape, text_limit: int) -> dict[str, Any]:
    """Returns the values of the statements of this module."""
    pipeline = shape.pipeline
    return {
        "spec": pipeline.spec.digest,
        "model": pipeline.spec.model,
        "text_limit": text_limit,
        "pipeline_id": pipeline.id,
        "source_id": pipeline.source.id,
    }
