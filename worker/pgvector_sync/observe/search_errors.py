"""Says what happened when the database refuses a search. A message that may quote a row is never shown (G13)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg import sql

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE
from pgvector_sync.database.explain import explain
from pgvector_sync.errors import DatabaseRefuses, Refused, SyncError
from pgvector_sync.model import Pipeline

_TOO_LONG = (
    "build an index on its target (`pgvector-sync doctor` shows the statement); if the text expression or the "
    "condition is slow, see PGVECTOR_SYNC_ROW_TIMEOUT in docs/configuration.md"
)


@contextmanager
def explained(pipeline: Pipeline, limit: timedelta, *, condition: bool) -> Iterator[None]:
    """Turn an error of psycopg into Refused or DatabaseRefuses, except an outage.

    limit: the time limit of a statement.
    condition: whether the search has a condition, which is then the probable cause.
    """
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction:
        if not condition:
            raise
        raise Refused("the condition writes to the database", hint="a condition may only read") from None
    except psycopg.Error as error:
        if (refusal := _refusal(error, pipeline, limit, condition=condition)) is None:
            raise
        raise refusal from None


def _refusal(error: psycopg.Error, pipeline: Pipeline, limit: timedelta, *, condition: bool) -> SyncError | None:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return Refused(f"searching {pipeline.name} took longer than {limit.total_seconds():.3g} s", hint=_TOO_LONG)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        tables = (
            sql.Identifier(pipeline.source.schema, pipeline.source.table),
            sql.Identifier(pipeline.target_schema, pipeline.target_table),
        )
        grant = f"GRANT SELECT ON {', '.join(table.as_string() for table in tables)} TO …;"
        return Refused(explain(error)[0], hint=f"{grant} -- or on the columns that are read, see docs/search.md")
    if isinstance(error, (*OUTAGE, *LOCK_CONFLICT)):
        return None
    if condition:
        return Refused(f"the condition fails ({error.sqlstate})", hint="try it: SELECT … WHERE (the condition)")
    message, hint = explain(error)
    return DatabaseRefuses(message, sqlstate=error.sqlstate, hint=hint)
