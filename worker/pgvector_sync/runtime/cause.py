"""What an error says about its cause: one row, the database's absence, its schema, or ourselves."""

from __future__ import annotations

from enum import Enum, auto

import psycopg

from pgvector_sync.database import OUTAGE

_ROW_STATES = ("22", "23", "54", "38", "39", "P0")
"""SQLSTATE classes that one row's content can cause: data exception, constraint, limit, failing functions."""
_OUT_OF_MEMORY = "53200"


class Cause(Enum):
    ROW = auto()
    """One row's content may be all that is wrong."""
    OUTAGE = auto()
    """The database is away, and comes back."""
    SCHEMA = auto()
    """A column, a type, a grant: nothing that a row's content can cause."""
    OURSELVES = auto()
    """It isn't the database's error: a bug, a time limit."""


def cause_of(error: BaseException) -> Cause:
    if not isinstance(error, psycopg.Error):
        return Cause.OURSELVES
    if is_of_a_row(error):  # first: too long a key is an operational error to psycopg
        return Cause.ROW
    return Cause.OUTAGE if isinstance(error, OUTAGE) else Cause.SCHEMA


def sqlstate_of(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def is_of_a_row(error: psycopg.Error) -> bool:
    """Whether one row's content may be all that is wrong."""
    state = error.sqlstate or ""
    return state.startswith(_ROW_STATES) or state == _OUT_OF_MEMORY
