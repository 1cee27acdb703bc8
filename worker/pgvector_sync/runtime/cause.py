"""Classify errors by their cause: one row's content, an outage of the database, its schema, or our own code."""

from __future__ import annotations

from enum import Enum, auto

import psycopg

from pgvector_sync.database import OUTAGE

_ROW_STATES = ("22", "23", "54", "38", "39", "P0")
"""SQLSTATE classes that one row's content can cause: data, constraints, program limits, failing functions."""
_OUT_OF_MEMORY = "53200"


class Cause(Enum):
    ROW = auto()
    """One row's content may be the cause."""
    OUTAGE = auto()
    """The database is away for now."""
    SCHEMA = auto()
    """A column, a type or a grant is wrong, which no row's content can cause."""
    OURSELVES = auto()
    """The error isn't the database's: a bug or a time limit."""


def cause_of(error: BaseException) -> Cause:
    if not isinstance(error, psycopg.Error):
        return Cause.OURSELVES
    if is_of_a_row(error):  # checked first: to psycopg, a key that is too long is an operational error
        return Cause.ROW
    return Cause.OUTAGE if isinstance(error, OUTAGE) else Cause.SCHEMA


def sqlstate_of(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def is_of_a_row(error: psycopg.Error) -> bool:
    """Whether one row's content may be the cause."""
    state = error.sqlstate or ""
    return state.startswith(_ROW_STATES) or state == _OUT_OF_MEMORY
