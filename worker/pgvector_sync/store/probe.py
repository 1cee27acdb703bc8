"""What a user's expressions read and need: Postgres parses them as a view, which is rolled back."""

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

PROBE = "expression_probe"
"""The view, in our schema."""
_SYSTEM_ATTRIBUTE = re.compile(r"\{VAR :varno \d+ :varattno -\d")
_WHOLE_ROW = re.compile(r"\{VAR :varno \d+ :varattno 0 ")
_FUNCTION = re.compile(r":(?:funcid|opfuncid) (\d+)")
_EXPRESSION_STATES = ("0A", "22", "42")
"""SQLSTATE classes of an expression that is wrong: not supported, data exception, syntax or access rule."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """Text and `where` as Postgres has understood them."""

    columns: tuple[str, ...]
    """What they read."""
    text: str
    where: str | None
    """With every name qualified, so that they mean the same whatever the search_path is."""
    depends: tuple[Need, ...]
    """What they need besides the row and what every Postgres has."""
    loose: tuple[str, ...]
    """Functions among it that look names up when they run."""


def understand(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None
) -> Expressions:
    """Has Postgres parse text and `where` as a view that is rolled back, under the search_path that an application
    has by default: what `=` is for a citext depends on it.

    Raises Refused for an expression that doesn't parse, isn't boolean (where), reads another table, is volatile
    or depends on the time: a change of those would go unnoticed.
    """
    try:
        with connection.transaction(force_rollback=True):
            paths = expressions.begin(connection)
            columns, whole = _probe(connection, source, table, text_sql, where_sql, paths)
            depends = (*_depends(connection), *([Need("row", "", "", "")] if whole else []))
            loose = _loose(connection)
            expressions.require_same_bodies(loose, paths)
            text = expressions.pin(connection, source, text_sql, paths)
            where = None if where_sql is None else expressions.pin(connection, source, where_sql, paths)
            return Expressions(tuple(columns), text, where, depends, loose)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _EXPRESSION_STATES:
            raise
        # the message names columns and functions of the user's expression; DETAIL, which may quote rows, stays out
        primary = error.diag.message_primary or "it does not parse"
        raise Refused(
            f"the expression is not valid for {source.label}: {primary}", hint=columns_hint(table)
        ) from None


def _probe(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None, paths: Paths
) -> tuple[list[str], bool]:
    """The columns that are read, and whether a whole row is, with columns that come later."""
    view = sql.Identifier("pgvector_sync", PROBE)
    expressions.create_view(
        connection,
        statement("probe.create_view").format(
            view=view,
            given_text=sql.SQL(text_sql),
            given_where=sql.SQL(where_sql or "true"),
            source=sql.Identifier(source.schema, source.table),
        ),
        paths.default,
        paths.ours,
    )
    found = one(
        connection,
        statement("probe.reads"),
        {"source_oid": table.oid, "view": f"pgvector_sync.{PROBE}"},
    )
    if found["others"]:
        raise Refused(
            f"the expression reads {', '.join(found['others'])}, whose changes no trigger on {source.label} sees",
            hint="keep what the text needs in the row itself (a column, or a trigger of your own that fills one)",
        )
    tree = found["tree"]
    if found["own_reads"] > 1:
        raise Refused(
            f"the expression reads other rows of {source.label}",
            hint="a change of those would not reach this row; keep what the text needs in the row itself",
        )
    if _SYSTEM_ATTRIBUTE.search(tree):
        raise Refused("the expression reads a system column", hint="use the table's own columns")
    functions = sorted({int(oid) for oid in _FUNCTION.findall(tree)})
    volatile = [r["name"] for r in connection.execute(statement("probe.volatile"), {"oids": functions})]
    if "{SQLVALUEFUNCTION" in tree:
        volatile.append("current_date or its like")
    if volatile:
        raise Refused(
            f"the expression depends on more than the row: {', '.join(volatile)}",
            hint="its result would change without the row changing, and the vector would be stale unnoticed",
        )
    columns = set(found["columns"])
    whole = _WHOLE_ROW.search(tree) is not None
    if whole or any(c.virtual and c.name in columns for c in table.columns):
        columns = {column.name for column in table.columns if not column.virtual}
    return [column.name for column in table.columns if column.name in columns], whole


def _depends(connection: Connection) -> tuple[Need, ...]:
    """What the probing view needs outside pg_catalog: functions, operators, types, collations."""
    rows = connection.execute(statement("probe.depends"), {"view": f"pgvector_sync.{PROBE}"})
    return tuple(Need(**row) for row in rows)


def _loose(connection: Connection) -> tuple[str, ...]:
    """Functions whose bodies look names up when they run, and that have no search_path of their own."""
    rows = connection.execute(statement("probe.loose"), {"view": f"pgvector_sync.{PROBE}"})
    return tuple(row["function"] for row in rows)
