"""Statements that stay prepared on a connection, unless a pooler is in between (docs/decisions/0098).

A call passes `prepare=True` for a statement that runs for every batch and has one sensible plan, whatever the
sizes of its tables: a plan that was made for ten rows would be kept for a million. A statement with an expression
of a pipeline is never prepared: Postgres would keep what it has computed of it, such as the value of an enum, even
after a change.
"""

from __future__ import annotations

from typing import Any

import psycopg

ONLY_ON_REQUEST = 2**62
"""A threshold of psycopg that is never reached, so that only statements with `prepare=True` are prepared."""
MOST_PREPARED = 200
"""The number of prepared statements of a connection: about fifty, and eight more per pipeline."""


class StaleStatementError(psycopg.OperationalError):
    """A prepared statement no longer exists or no longer fits the schema. A new transaction prepares it again."""


def allow_prepared(connection: psycopg.Connection[Any]) -> None:
    """Lets statements with `prepare=True` stay prepared on this connection."""
    connection.prepare_threshold = ONLY_ON_REQUEST
    connection.prepared_max = MOST_PREPARED


def is_stale(error: psycopg.Error) -> bool:
    """Whether the error is due to a prepared statement, so that the same statement may succeed if sent again."""
    return is_missing(error) or (
        # other errors have the same SQLSTATE, and the message is translated
        isinstance(error, psycopg.errors.FeatureNotSupported)
        and error.diag.source_function == "RevalidateCachedQuery"
    )


def is_missing(error: psycopg.Error) -> bool:
    """Whether a prepared statement is on another connection: a pooler is in between after all."""
    missing = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
    return isinstance(error, missing)
