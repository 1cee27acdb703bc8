"""Check whether `text` or `where` fails on one row, or on every row, which only the configuration can cause."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import psycopg

from pgvector_sync.database import limit_statements
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Key
from pgvector_sync.runtime import Runtime, page_limit, part_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.store import rows
from pgvector_sync.store.shape import Shape

MIN_FAILED_ROWS = 3
"""Number of rows that have to fail, with none that succeeds, before the expression is at fault."""
SAMPLE_ROWS = 8
HINT = "correct it in pgvector-sync.toml, then: pgvector-sync apply"


def fault_without_rows(runtime: Runtime, shape: Shape) -> DatabaseRefuses | None:
    """Return the error of an expression that is no longer valid: an enum value was renamed, for example."""
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
    """Return the error of an expression that fails on the rows in `failed` and on other rows of the source.

    None if any other row succeeds, or if too few rows were tried.
    """
    sample = _sample(runtime, shape)
    results = [_reads(runtime, shape, [key]) for key in sample if key not in failed]
    if True in results or len(failed) + results.count(False) < MIN_FAILED_ROWS:
        return None
    name = "where" if _where_fails(runtime, shape, list(failed)) else "text"
    return DatabaseRefuses(f"`{name}` fails on every row ({error.sqlstate})", sqlstate=error.sqlstate, hint=HINT)


def fault_of_slowness(
    runtime: Runtime, shape: Shape, slow: Collection[Key], quick: Sequence[Key]
) -> DatabaseRefuses | None:
    """Return the error of an expression, or a server, that is slow on every row.

    None if any other row, those that were `quick` before included, is read in time now, or if too few were tried.
    """
    try:
        others = [*quick[:MIN_FAILED_ROWS], *(key for key in _sample(runtime, shape) if key not in slow)]
    except psycopg.errors.QueryCanceled:
        others = list(quick[:MIN_FAILED_ROWS])
    for key in (tried := others[:SAMPLE_ROWS]):
        if _is_read_in_time(runtime, shape, key):
            return None
    if len(slow) + len(tried) < MIN_FAILED_ROWS:
        return None
    return DatabaseRefuses(
        "`text` or `where` takes too long on every row (57014)",
        sqlstate="57014",
        hint="the pipeline resumes once rows are read in time; see PGVECTOR_SYNC_ROW_TIMEOUT",
    )


def _is_read_in_time(runtime: Runtime, shape: Shape, key: Key) -> bool:
    """Whether the row is read in time, even if an expression fails on it."""
    try:
        with runtime.database.transaction(read_only=True, by_key=True) as connection:
            limit_statements(connection, part_limit(runtime))
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
    """Whether the rows are read. None if they have no text (excluded, blank or gone) or the schema is at fault."""
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
