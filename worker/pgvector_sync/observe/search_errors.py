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
from pgvector_sync.store.conditions import Condition, refused

_TOO_LONG = (
    "build an index on its target (`pgvector-sync doctor` shows the statement); if the text expression or the "
    "condition is slow, see PGVECTOR_SYNC_ROW_TIMEOUT in docs/configuration.md"
)


@contextmanager
def explained(pipeline: Pipeline, limit: timedelta, condition: Condition | None) -> Iterator[None]:
    """Turn an error of psycopg into Refused or DatabaseRefuses, except an outage.

    limit: the time limit of a statement.
    condition: the search's own condition, which is then the probable cause.
    """
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction:
        if condition is None:
            raise
        raise Refused("the condition writes to the database", hint="a condition may only read") from None
    except psycopg.Error as error:
        if (refusal := _refusal(error, pipeline, limit, condition)) is None:
            raise
        raise refusal from None


def _refusal(
    error: psycopg.Error, pipeline: Pipeline, limit: timedelta, condition: Condition | None
) -> SyncError | None:
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
    if condition is not None:
        # a message of class 22 may quote a row
        unsound = None if (error.sqlstate or "").startswith("22") else refused(error, pipeline.source)
        hint = "try it: SELECT … WHERE (the condition)"
        return unsound or Refused(f"the condition fails ({error.sqlstate})", hint=hint)
    message, hint = explain(error)
    return DatabaseRefuses(message, sqlstate=error.sqlstate, hint=hint)
