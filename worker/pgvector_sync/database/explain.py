"""What a database error means for a person: what happened, and what to do next.

Never the server's own words where they may quote a row (G13): SQLSTATE, names of the schema, and words of ours.
"""

from __future__ import annotations

import psycopg

from pgvector_sync.database import IN_THE_WAY

DOCTOR = "`pgvector-sync doctor` names what is missing, and what to do"
_CONNECTION = ("", "08", "28", "3D", "57")
"""SQLSTATE classes of a connection that fails; none where there was no server to say it."""
_OUT_OF = {
    "53100": ("its disk is full", "free space on the server, then run the command again"),
    "53200": ("it is out of memory", "free memory on the server, then run the command again"),
    "53300": ("all its connections are taken", "raise max_connections, or put a pooler between"),
}


def explain(error: psycopg.Error) -> tuple[str, str]:
    """(what happened, what to do)."""
    state = error.sqlstate or ""
    if isinstance(error, IN_THE_WAY):  # which Postgres counts among operational errors
        return (
            f"another session holds a lock that is in the way ({state})",
            "run it again in a moment; `pgvector-sync doctor` shows long transactions",
        )
    if state in _OUT_OF:
        what, advice = _OUT_OF[state]
        return f"the server refuses, since {what} ({state})", advice
    if explained := _by_state(error, state) or _by_class(error, state):
        return explained
    if isinstance(error, psycopg.OperationalError) and state[:2] in _CONNECTION:
        return f"the database is out of reach: {_reason(error)}", "check DATABASE_URL, and that the server runs"
    if not state:
        return (
            f"psycopg refuses a statement ({type(error).__name__})",
            "please report it as a bug, with the command that you ran",
        )
    return f"the database refuses it ({state} {type(error).__name__})", DOCTOR


def _by_state(error: psycopg.Error, state: str) -> tuple[str, str] | None:
    if state == "57014":
        return (
            "a statement was cancelled (57014)",
            "if statement_timeout of this role or database did it, raise that: ALTER ROLE … SET statement_timeout",
        )
    if state == "25006":
        return "the database is read-only (25006)", "point DATABASE_URL to the primary, not to a standby"
    if state == "42501":
        return f"{error.diag.message_primary or 'permission denied'} (42501)", DOCTOR
    if state == "42P01":
        return (
            f"{error.diag.message_primary or 'a table is missing'} (42P01)",
            "if it is one of pgvector_sync: `pgvector-sync migrate`; else `pgvector-sync doctor` says what to do",
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
        case "42":  # its message names what the schema lacks, never a row
            return f"{error.diag.message_primary or type(error).__name__} ({state})", DOCTOR
        case "XX":
            return (
                f"an internal error of the server ({state})",
                "look into the server's log; if its tables were replaced just now, run the command again",
            )
    return None


def _refused_row(error: psycopg.Error, state: str) -> tuple[str, str]:
    """A constraint; DETAIL, which quotes the row, stays out."""
    diag = error.diag
    table = ".".join(filter(None, (diag.schema_name, diag.table_name))) or "a table"
    what = f"constraint {diag.constraint_name}" if diag.constraint_name else f"column {diag.column_name}"
    if diag.schema_name == "pgvector_sync":
        advice = "another command changed the same thing: run it again; if it stays, please report it as a bug"
    elif state == "23502":
        advice = f"give the column a default: ALTER TABLE {table} ALTER COLUMN {diag.column_name} SET DEFAULT …"
    else:
        advice = (
            f"pgvector-sync can't satisfy it: drop it from {table}, or keep such columns in a table of your own"
        )
    return f"{table} refuses a row, by {what} ({state})", advice


def _reason(error: psycopg.Error) -> str:
    """The first line, which names host and cause; never the connection string."""
    return (str(error).strip().splitlines() or ["no answer"])[0]
