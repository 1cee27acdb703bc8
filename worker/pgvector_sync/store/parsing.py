"""Finds out what a user's expressions read and need: Postgres parses them as a view, which is rolled back."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import Need, Source
from pgvector_sync.store import expressions
from pgvector_sync.store.catalog import Table, columns_hint
from pgvector_sync.store.expressions import Paths

VIEW = "parsed_expressions"
"""The name of the view, in our schema."""
_SYSTEM_ATTRIBUTE = re.compile(r"\{VAR :varno \d+ :varattno -\d")
_WHOLE_ROW = re.compile(r"\{VAR :varno \d+ :varattno 0 ")
_FUNCTION = re.compile(r":(?:funcid|opfuncid) (\d+)")
_EXPRESSION_STATES = ("0A", "22", "42")
"""SQLSTATE classes of a wrong expression: not supported, data exception, syntax error or access rule violation."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """Text and `where` as Postgres has parsed them."""

    columns: tuple[str, ...]
    """The columns that they read."""
    text: str
    where: str | None
    """Text and `where` with every name qualified, so that they mean the same under every search_path."""
    depends: tuple[Need, ...]
    """The objects outside pg_catalog that they need."""
    loose: tuple[str, ...]
    """Functions that look names up when they run, and have no search_path of their own."""


def understand(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None
) -> Expressions:
    """Makes Postgres parse text and `where`, as a view that is rolled back.

    They are parsed under the default search_path, as the application would: it decides what `=` is for a citext.
    Raises Refused for an expression that isn't valid, or for a `where` that isn't boolean; also for one that reads
    other rows or tables, is volatile or depends on the time, because such changes would go unnoticed.
    """
    try:
        with connection.transaction(force_rollback=True):
            paths = expressions.begin(connection)
            columns, whole = _reads(connection, source, table, text_sql, where_sql, paths)
            depends = (*_depends(connection), *([Need("row", "", "", "")] if whole else []))
            loose = _loose(connection)
            expressions.require_same_bodies(loose, paths)
            text = expressions.pin(connection, source, text_sql, paths)
            where = None if where_sql is None else expressions.pin(connection, source, where_sql, paths)
            return Expressions(tuple(columns), text, where, depends, loose)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _EXPRESSION_STATES:
            raise
        # the message names columns and functions of the expression; DETAIL, which may quote rows, isn't used
        primary = error.diag.message_primary or "syntax error"
        key = "where" if _is_valid(connection, source, table, text_sql) else "text"
        raise Refused(f"`{key}` is not valid for {source.label}: {primary}", hint=columns_hint(table)) from None


def _is_valid(connection: Connection, source: Source, table: Table, text_sql: str) -> bool:
    """Whether Postgres accepts a text without a `where`."""
    try:
        with connection.transaction(force_rollback=True):
            paths = expressions.begin(connection)
            _reads(connection, source, table, text_sql, None, paths)
    except (psycopg.Error, Refused):
        return False
    return True


def _reads(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None, paths: Paths
) -> tuple[list[str], bool]:
    """Returns the columns that are read, and whether a whole row is, which includes columns added later."""
    view = sql.Identifier("pgvector_sync", VIEW)
    expressions.create_view(
        connection,
        statement("parsing.create_view").format(
            view=view,
            given_text=sql.SQL(text_sql),
            given_where=sql.SQL(where_sql or "true"),
            source=sql.Identifier(source.schema, source.table),
        ),
        paths.default,
        paths.ours,
    )
    reads = one(
        connection,
        statement("parsing.reads"),
        {"source_oid": table.oid, "view": f"pgvector_sync.{VIEW}"},
    )
    if reads["others"]:
        raise Refused(
            f"the expression reads {', '.join(reads['others'])}, whose changes triggers on {source.label} miss",
            hint="store what the text needs in the row itself, in a column that a trigger of your own fills",
        )
    tree = reads["tree"]
    if reads["own_reads"] > 1:
        raise Refused(
            f"the expression reads other rows of {source.label}",
            hint="store what the text needs in the row itself: a change of other rows would go unnoticed",
        )
    if _SYSTEM_ATTRIBUTE.search(tree):
        raise Refused("the expression reads a system column", hint="use the table's own columns")
    functions = sorted({int(oid) for oid in _FUNCTION.findall(tree)})
    volatile = [r["name"] for r in connection.execute(statement("parsing.volatile"), {"oids": functions})]
    if "{SQLVALUEFUNCTION" in tree:
        volatile.append("current_date or similar")
    if volatile:
        raise Refused(
            f"the expression depends on more than the row: {', '.join(volatile)}",
            hint="use only the row's columns: otherwise its result could change without an update of the row",
        )
    columns = set(reads["columns"])
    whole = _WHOLE_ROW.search(tree) is not None
    if whole or any(c.virtual and c.name in columns for c in table.columns):
        columns = {column.name for column in table.columns if not column.virtual}
    return [column.name for column in table.columns if column.name in columns], whole


def _depends(connection: Connection) -> tuple[Need, ...]:
    """Returns the functions, operators, types and collations outside pg_catalog that the view needs."""
    rows = connection.execute(statement("parsing.depends"), {"view": f"pgvector_sync.{VIEW}"})
    return tuple(Need(**row) for row in rows)


def _loose(connection: Connection) -> tuple[str, ...]:
    """Returns functions that look names up when they run, and have no search_path of their own."""
    rows = connection.execute(statement("parsing.loose"), {"view": f"pgvector_sync.{VIEW}"})
    return tuple(row["function"] for row in rows)
