"""Finds drift between source and target, page by page, and records what reconciliations found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.packing import PackedKeys
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Key
from pgvector_sync.store import stored
from pgvector_sync.store.coverage import to_backfill
from pgvector_sync.store.shape import Shape, key_json, name
from pgvector_sync.store.source import now
from pgvector_sync.store.stored import STORED
from pgvector_sync.store.trust import require_trusted

CHUNKS = 1
"""The number of chunks per row, as long as there is no chunking."""


class Drift(StrEnum):
    """How a row and its vectors can differ although nothing waits. A key has the first kind that fits."""

    ORPHANED = "orphaned"
    """Vectors without a row, or of a row that should have none."""
    MISSING = "missing"
    """A row without vectors."""
    WRONG_MODEL = "wrong_model"
    """Vectors of another model or number of dimensions."""
    INCOMPLETE = "incomplete"
    """A set of chunks with gaps, with too many chunks, or of several texts."""
    STALE = "stale"
    """Vectors of an older text."""
    BROKEN = "broken"
    """A vector of zeros, which no model returns (pgvector itself rejects NaN and infinity)."""
    STUCK = "stuck"
    """Work that no worker will ever take."""


FORCED = (Drift.WRONG_MODEL, Drift.INCOMPLETE, Drift.BROKEN)
"""Kinds that are enqueued with `force`: their fingerprint may be right, so a worker would keep the vectors."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of both tables, compared."""

    rows: int
    vectors: int
    drifted: dict[Key, Drift]
    upto: Key | None
    """The last key of the page; None for the last page."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one reconciliation found, in rows."""

    pipeline: str
    at: datetime
    run_id: int
    deep: bool
    rows: int
    vectors: int
    missing: int
    stale: int
    orphaned: int
    wrong_model: int
    broken: int
    incomplete: int
    stuck: int


def page(
    connection: Connection, shape: Shape, after: Key | None, *, limit: int, deep: bool, text_limit: int
) -> Page:
    """Compares the next page after a key. Raises psycopg.DataError or similar if an expression fails on a row."""
    pipeline = shape.pipeline
    require_trusted(connection, pipeline)
    params = {
        "after": None if after is None else Jsonb(list(after)),
        "limit": limit,
        "spec": pipeline.spec.digest,
        "model": pipeline.spec.model,
        "dimensions": pipeline.spec.dimensions,
        "chunks": CHUNKS,
        "text_limit": text_limit,
        "pipeline_id": pipeline.id,
        "source_id": pipeline.source.id,
    }
    bound = connection.execute(_bound(shape, from_start=after is None), params).fetchone()
    upto = None if bound is None else bound["key"]
    params["upto"] = None if upto is None else Jsonb(upto)
    query = _page(shape, deep=deep, from_start=after is None, to_end=upto is None)
    row = one(connection, query, params)
    # a separate statement, so that everything it compares is in one snapshot
    differing = [*(row["differing"] or ()), *row["with_chunks"]]
    drifted = {}
    if differing:
        judged = connection.execute(_judge(shape), {**params, "keys": [Jsonb(key) for key in differing]})
        drifted = {tuple(each["key"]): Drift(each["kind"]) for each in judged}
    return Page(row["rows"], row["vectors"], drifted, None if upto is None else tuple(upto))


def first(connection: Connection, shape: Shape, after: Key | None) -> Key | None:
    """Returns the first key after another, in either table; None if there is none. Raises DatabaseRefuses."""
    require_trusted(connection, shape.pipeline)
    params = {"after": None if after is None else Jsonb(list(after)), "limit": 1}
    row = connection.execute(_bound(shape, from_start=after is None), params).fetchone()
    return None if row is None else tuple(row["key"])


def waits(connection: Connection, shape: Shape, key: Key) -> bool:
    """Whether a key is in outbox or work."""
    pipeline = shape.pipeline
    params = {"pipeline_id": pipeline.id, "source_id": pipeline.source.id, "key": Jsonb(list(key))}
    return bool(one(connection, statement("drift.waits"), params)["waits"])


def stuck(connection: Connection, shape: Shape, *, lease: timedelta, longest: timedelta, limit: int) -> list[Key]:
    """Returns stuck work: held for `lease` beyond the end of its lease, or due later than `longest`."""
    params = {"pipeline_id": shape.pipeline.id, "overdue": lease, "longest": longest, "limit": limit}
    return [tuple(row["key"]) for row in connection.execute(statement("drift.stuck"), params)]


def free(
    connection: Connection, shape: Shape, keys: Sequence[Key], *, lease: timedelta, longest: timedelta
) -> int:
    """Makes stuck work due; returns how many rows. Those no longer stuck aren't changed."""
    params = {
        "pipeline_id": shape.pipeline.id,
        "keys": PackedKeys(keys),
        "lease": lease,
        "longest": longest,
    }
    return connection.execute(statement("drift.free"), params).rowcount


def take_orphans(connection: Connection, run_id: int, *, limit: int) -> list[Key]:
    """Removes the next orphans from the list that a run has collected, and returns them."""
    rows = connection.execute(statement("drift.take_orphans"), {"run_id": run_id, "limit": limit})
    return [tuple(row["key"]) for row in rows]


def note(connection: Connection, shape: Shape, run_id: int, *, deep: bool, counts: dict[str, int]) -> None:
    """Records what a reconciliation found. `counts` has rows, vectors and every kind of drift."""
    params = {"pipeline_id": shape.pipeline.id, "run_id": run_id, "deep": deep, **counts}
    connection.execute(statement("drift.note"), params)


def trend(connection: Connection, pipeline: str | None, *, limit: int) -> list[Figures]:
    """Returns what reconciliations found, newest first."""
    rows = connection.execute(statement("drift.trend"), {"pipeline": pipeline, "limit": limit})
    return [Figures(**row) for row in rows]


def forget(connection: Connection, *, older_than: timedelta) -> int:
    """Deletes figures that are older; returns how many."""
    return connection.execute(statement("drift.forget"), {"older_than": older_than}).rowcount


_SEEN = sql.Identifier("pgvector_sync_seen")
_NEXT = sql.Identifier("pgvector_sync_bound")
_UPTO = sql.SQL("%(upto)s::pg_catalog.jsonb")


@lru_cache(maxsize=64)
def _bound(shape: Shape, *, from_start: bool) -> sql.Composed:
    return statement("drift.bound").format(
        source=shape.source,
        stored=stored.relation(shape),
        key_bound=key_json(shape.pipeline.source, _NEXT, name),
        columns_source=shape.columns(shape.source),
        columns_stored=shape.columns(STORED),
        columns_bound=shape.columns(_NEXT),
        after_source=shape.after(shape.source, from_start=from_start),
        after_stored=shape.after(STORED, from_start=from_start),
    )


@lru_cache(maxsize=64)
def _page(shape: Shape, *, deep: bool, from_start: bool, to_end: bool) -> sql.Composed:
    source = shape.pipeline.source

    def in_page(qualifier: sql.Composable) -> sql.Composed:
        upper = sql.SQL("true") if to_end else shape.compare(qualifier, "<=", _UPTO)
        return sql.SQL("{} AND {}").format(shape.after(qualifier, from_start=from_start), upper)

    parts: dict[str, sql.Composable] = {
        **stored.fragments(shape),
        **shape.zeros,
        "columns": shape.columns(),
        "columns_source": shape.columns(shape.source),
        "columns_stored": shape.columns(STORED),
        "key_stored": key_json(source, STORED, name),
        "key_either": sql.SQL("CASE WHEN {}.pgvector_sync_there THEN {} ELSE {} END").format(
            _SEEN, key_json(source, _SEEN, name), key_json(source, STORED, name)
        ),
        "same_key": sql.SQL(" AND ").join(
            sql.SQL("{}.{c} = {}.{c}").format(_SEEN, STORED, c=name(column.name)) for column in source.key
        ),
        "in_page_source": in_page(shape.source),
        "in_page_stored": in_page(STORED),
    }
    parts["seen"] = part("drift.seen_deep" if deep else "drift.seen_cheap").format(**parts)
    parts["differs"] = part("drift.differs_deep" if deep else "drift.differs_cheap").format(**parts)
    return statement("drift.page").format(**parts)


@lru_cache(maxsize=64)
def _judge(shape: Shape) -> sql.Composed:
    return statement("drift.judge").format(
        **stored.fragments(shape),
        **shape.zeros,
        now=now(shape),
        dims=name(shape.vector_schema, "vector_dims"),
        to_backfill=to_backfill(shape),
    )
