"""Whether text or `where` fail on one row, or on every row: then it is the configuration's fault and no row's."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import psycopg

from pgvector_sync.database import limit_statements
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime, page_limit, probe_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.store import rows
from pgvector_sync.store.shape import Shape

FEW = 3
"""Rows that have to fail, with none that is read, before the expression is to blame."""
SAMPLE_ROWS = 8
HINT = "correct it in pgvector-sync.toml, then: pgvector-sync apply"


def fault_without_rows(runtime: Runtime, shape: Shape) -> DatabaseRefuses | None:
    """Of an expression that isn't one any more: an enum value was renamed, a function dropped, say."""
    for name, condition in (("where", shape.wanted), ("text", shape.has_text)):
        try:
            with runtime.database.transaction(read_only=True) as connection:
                rows.explain(connection, shape, condition)
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.InternalError) as error:
            return DatabaseRefuses(
                f"`{name}` fails without any row ({error.sqlstate})", sqlstate=error.sqlstate, hint=HINT
            )
    return None


def fault_on_every_row(
    runtime: Runtime, shape: Shape, error: psycopg.Error, failed: Collection[Key]
) -> DatabaseRefuses | None:
    """Where these rows `failed`, none was read beside them, and a few others of the source fail as well."""
    sample = _sample(runtime, shape)
    results = [_reads(runtime, shape, [key]) for key in sample if key not in failed]
    if True in results or len(failed) + results.count(False) < FEW:
        return None
    name = "where" if _where_fails(runtime, shape, list(failed)) else "text"
    return DatabaseRefuses(f"`{name}` fails on every row ({error.sqlstate})", sqlstate=error.sqlstate, hint=HINT)


def fault_of_slowness(
    runtime: Runtime, shape: Shape, slow: Collection[Key], quick: Sequence[Key]
) -> DatabaseRefuses | None:
    """Where these rows are `slow` and now a few others are, too, even those that were `quick` before: then the
    server is, or the expression on all rows.
    """
    try:
        others = [*quick[:FEW], *(key for key in _sample(runtime, shape) if key not in slow)]
    except psycopg.errors.QueryCanceled:
        others = list(quick[:FEW])
    for key in (tried := others[:SAMPLE_ROWS]):
        if _answers(runtime, shape, key):
            return None
    if len(slow) + len(tried) < FEW:
        return None
    return DatabaseRefuses(
        "`text` or `where` takes too long on every row (57014)",
        sqlstate="57014",
        hint="it goes on by itself once they are read in time; see PGVECTOR_SYNC_ROW_TIMEOUT",
    )


def _answers(runtime: Runtime, shape: Shape, key: Key) -> bool:
    """Whether the row is read in time, whatever it says."""
    try:
        with runtime.database.transaction(read_only=True, by_key=True) as connection:
            limit_statements(connection, probe_limit(runtime))
            rows.look(connection, shape, [key], text_limit=runtime.settings.text_limit_bytes)
    except psycopg.errors.QueryCanceled:
        return False
    except psycopg.Error as error:
        if not is_of_a_row(error):
            raise
    return True


def _sample(runtime: Runtime, shape: Shape) -> list[Key]:
    with runtime.database.transaction(read_only=True) as connection:
        limit_statements(connection, page_limit(runtime))
        limit = runtime.settings.text_limit_bytes
        return [key for key, _ in rows.page(connection, shape, None, limit=SAMPLE_ROWS, text_limit=limit)]


def _reads(runtime: Runtime, shape: Shape, keys: Sequence[Key]) -> bool | None:
    """None where a row says nothing: it isn't wanted, blank or gone."""
    try:
        with runtime.database.transaction(read_only=True) as connection:
            limit_statements(connection, page_limit(runtime))
            seen = rows.look(connection, shape, keys, text_limit=runtime.settings.text_limit_bytes)
    except psycopg.Error as error:
        return False if is_of_a_row(error) else None
    return True if any(look.fingerprint for look in seen.values()) else None


def _where_fails(runtime: Runtime, shape: Shape, keys: Sequence[Key]) -> bool:
    try:
        with runtime.database.transaction(read_only=True) as connection:
            limit_statements(connection, page_limit(runtime))
            rows.matching(
                connection,
                shape,
                keys,
                [shape.wanted],
                text_limit=runtime.settings.text_limit_bytes,
                since=None,
            )
    except psycopg.Error:
        return True
    return False
