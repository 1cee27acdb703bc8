"""Translates database errors for users: what happened, and what to do next.

A server message that may quote a row is never shown (G13), only its SQLSTATE and the names of schema objects.
"""

from __future__ import annotations

import psycopg

from pgvector_sync import tls
from pgvector_sync.database import LOCK_CONFLICT

DOCTOR = "run `pgvector-sync doctor`: it shows what is missing, and how to fix it"
ROLES = (
    "connect as the role that is meant for it: docs/operations.md lists them; "
    "as the workers' role, `pgvector-sync doctor` shows which grants are missing"
)
_CONNECTION = ("", "08", "28", "3D", "57")
"""SQLSTATE classes of a failed connection; "" if no server answered."""
_OUT_OF = {
    "53100": ("its disk is full", "free space on the server, then run the command again"),
    "53200": ("it is out of memory", "free memory on the server, then run the command again"),
    "53300": ("all its connections are in use", "raise max_connections, or use a connection pooler"),
}


def explain(error: psycopg.Error) -> tuple[str, str]:
    """Returns (what happened, what to do)."""
    state = error.sqlstate or ""
    if isinstance(error, LOCK_CONFLICT):  # psycopg counts these among operational errors
        return (
            f"another session holds a lock that is in the way ({state})",
            "try again in a moment; `pgvector-sync doctor` shows long transactions",
        )
    if state in _OUT_OF:
        what, advice = _OUT_OF[state]
        return f"the server can't run the statement: {what} ({state})", advice
    if explained := _by_state(error, state) or _by_class(error, state):
        return explained
    if isinstance(error, psycopg.OperationalError) and state[:2] in _CONNECTION:
        if failure := tls.explain(str(error), tls.POSTGRES):
            return f"can't connect to the database: {failure[0]}", failure[1]
        return (
            f"the database is out of reach: {_reason(error)}",
            "check DATABASE_URL, and whether the server is running",
        )
    if not state:
        return (
            f"psycopg rejected a statement ({type(error).__name__})",
            "please report this as a bug, with the command that you ran",
        )
    return f"the database rejected a statement ({state} {type(error).__name__})", DOCTOR


def _by_state(error: psycopg.Error, state: str) -> tuple[str, str] | None:
    if state == "57014":
        return (
            "a statement was cancelled (57014)",
            "if the statement_timeout of this role or database is too short: ALTER ROLE … SET statement_timeout",
        )
    if state == "25006":
        return "the database is read-only (25006)", "point DATABASE_URL to the primary instead of a standby"
    if state == "42501":
        return f"{error.diag.message_primary or 'permission denied'} (42501)", ROLES
    if state == "42P01":
        return (
            f"{error.diag.message_primary or 'a table is missing'} (42P01)",
            "if it is in schema pgvector_sync, run `pgvector-sync migrate`; otherwise `pgvector-sync doctor`",
        )
    return None


def _by_class(error: psycopg.Error, state: str) -> tuple[str, str] | None:
    match state[:2]:
        case "22":
            return (
                f"`text`, `where` or a condition fails on a row ({state})",
                "`pgvector-sync dead-letters list` shows rows that can't be embedded; change the expression",
            )
        case "23":
            return _refused_row(error, state)
        case "42":  # the message names what the schema lacks, never a row
            return f"{error.diag.message_primary or type(error).__name__} ({state})", DOCTOR
        case "XX":
            return (
                f"an internal error of the server ({state})",
                "check the server's log; if tables have just been replaced, run the command again",
            )
    return None


def _refused_row(error: psycopg.Error, state: str) -> tuple[str, str]:
    """Names the constraint. DETAIL, which quotes the row, is left out."""
    diag = error.diag
    table = ".".join(filter(None, (diag.schema_name, diag.table_name))) or "a table"
    what = f"constraint {diag.constraint_name}" if diag.constraint_name else f"column {diag.column_name}"
    if diag.schema_name == "pgvector_sync":
        advice = "another command made the same change: run it again; if this recurs, please report it as a bug"
    elif state == "23502":
        advice = f"add a default: ALTER TABLE {table} ALTER COLUMN {diag.column_name} SET DEFAULT …"
    else:
        advice = (
            f"pgvector-sync can't satisfy it: drop it from {table}, or move such columns to a table of your own"
        )
    return f"{what} of {table} rejected a row ({state})", advice


def _reason(error: psycopg.Error) -> str:
    """The first line of the message, which names host and cause, but never the connection string."""
    return (str(error).strip().splitlines() or ["no answer"])[0]
