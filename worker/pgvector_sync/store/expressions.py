"""Pins expressions at `apply`: qualifies every name, so that they mean the same under a worker's search_path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from pgvector_sync.database import Connection, limit_statements, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import Source
from pgvector_sync.store.shape import expression
from pgvector_sync.store.trust import trusts

PIN = "expression_pin"
"""The name of a view in our schema, which is rolled back."""
_COLUMN = "pgvector_sync_text"
"""The column of that view."""
TRY_TIME = timedelta(seconds=2)
"""The time limit of running the expressions on the first rows."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Values of search_path: the default of the database or role, and ours."""

    default: str
    ours: str
    differ: tuple[str, ...]
    """Schemas on the default one that aren't on ours."""


def begin(connection: Connection) -> Paths:
    """Returns the search_path under which users write expressions, and ours.

    Our own statements never use the default one: a role that may create in one of its schemas could make them call
    its own functions and operators.
    """
    row = one(connection, statement("expressions.paths"))
    _look_up(connection, row["default_path"])
    default_schemas = one(connection, statement("expressions.schemas"))["schemas"]
    _look_up(connection, row["our_path"])
    differ = tuple(schema for schema in default_schemas if schema not in row["schemas"])
    return Paths(row["default_path"], row["our_path"], differ)


def create_view(connection: Connection, query: sql.Composed, path: str, ours: str) -> None:
    """Creates a view, with a user's expression parsed under the search_path `path`. Executes nothing of it."""
    _look_up(connection, path)
    # binary, for the extended protocol, which accepts only a single statement
    connection.cursor(binary=True).execute(query)
    _look_up(connection, ours)


def pin(connection: Connection, source: Source, user_sql: str, paths: Paths) -> str:
    """Returns the expression with every name qualified. Raises Refused if that isn't possible."""
    meant = _spelled_out(connection, source, user_sql, paths.default, paths.ours)
    for spelling in (meant, user_sql):
        try:
            with connection.transaction():
                if _spelled_out(connection, source, spelling, paths.ours, paths.ours) == meant:
                    return spelling
        except psycopg.Error:
            continue
    raise Refused(
        "the expression would mean something else under a worker's search_path",
        hint="qualify its functions, types and operators: extensions.unaccent(body), a OPERATOR(extensions.=) b",
    )


def same_meaning(connection: Connection, source: Source, stored: str, pinned: str) -> bool:
    """Whether two pinned expressions are equal, which different versions of Postgres may print differently."""
    if stored == pinned:
        return True
    try:
        with connection.transaction(force_rollback=True):
            return _spelled_out(connection, source, stored) == _spelled_out(connection, source, pinned)
    except psycopg.Error:
        return False


def require_same_bodies(loose: tuple[str, ...], paths: Paths) -> None:
    """Raises Refused if the default search_path has schemas that may change what functions of `loose` do.

    `loose` are functions that look names up when they run, and have no search_path of their own. The operators in
    schemas other than public may decide what a comparison means.
    """
    if loose and (others := [schema for schema in paths.differ if schema != "public"]):
        path = ", ".join(sql.Identifier(schema).as_string() for schema in (*others, "public"))
        raise Refused(
            f"{', '.join(loose)} would look names up without {', '.join(others)}, which is on the default "
            "search_path and not on a worker's",
            hint=_pinned_by(loose, path),
        )


def require_same_results(
    connection: Connection, source: Source, text: str, where: str | None, loose: tuple[str, ...]
) -> bool:
    """Runs the expressions on the first rows under the application's search_path, then under a worker's.

    Returns False if that proves nothing: there is no row, or functions of other roles could be called. Pass only
    trusted expressions. Raises Refused if a function of `loose` returns something else for a worker, or fails.
    """
    if not loose:
        return True
    before = one(connection, statement("expressions.paths"))
    _look_up(connection, before["default_path"])
    path = one(connection, statement("expressions.schemas"))["schemas"]
    _look_up(connection, before["our_path"])
    query = statement("expressions.shared").format(trusts_owner=trusts("object.owner"))
    if one(connection, query, {"schemas": path})["shared"]:
        return False  # a body could call functions of untrusted roles
    try:
        meant = _first_rows(connection, source, text, where, before["default_path"])
    except psycopg.Error:
        return False  # a row fails anyway, or takes too long, which proves nothing
    try:
        same = _first_rows(connection, source, text, where, before["our_path"]) == meant
        problem = "returns another result"
    except psycopg.errors.QueryCanceled:
        return False
    except psycopg.Error as error:
        same, problem = False, f"fails ({error.sqlstate})"
    if not same:
        raise Refused(
            f"{', '.join(loose)} {problem} under a worker's search_path, which is pg_catalog only",
            hint=_pinned_by(loose, "public, pg_temp"),
        )
    return bool(meant)


def explain(
    connection: Connection,
    relation: sql.Identifier,
    condition: sql.Composable,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Plans a condition on rows of a table, and executes nothing. Raises psycopg.Error if it isn't valid.

    Percent signs in relation and condition must be doubled.
    """
    query = statement("expressions.explain").format(source=relation, condition=condition)
    # binary, for the extended protocol, which accepts only a single statement
    connection.cursor(binary=True).execute(query, params or {})


def _pinned_by(functions: tuple[str, ...], path: str) -> str:
    return "\n".join(f"ALTER FUNCTION {function} SET search_path = {path};" for function in functions)


def _first_rows(connection: Connection, source: Source, text: str, where: str | None, path: str) -> list[DictRow]:
    query = statement("expressions.first_rows").format(
        text=expression(text),
        wanted=expression(where or "true"),
        source=sql.Identifier(source.schema, source.table),
        key_columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in source.key),
    )
    with connection.transaction(force_rollback=True):
        limit_statements(connection, TRY_TIME)
        _look_up(connection, path)
        return connection.execute(query, {}).fetchall()


def _look_up(connection: Connection, path: str) -> None:
    connection.execute(statement("expressions.look_up"), {"path": path})


def _spelled_out(connection: Connection, source: Source, user_sql: str, path: str = "", ours: str = "") -> str:
    """Returns the expression as Postgres prints it under an empty search_path, with every name qualified."""
    view = sql.Identifier("pgvector_sync", PIN)
    create_view(
        connection,
        statement("expressions.create_view").format(
            view=view,
            given=sql.SQL(user_sql),
            source=sql.Identifier(source.schema, source.table),
        ),
        path,
        "",
    )
    printed: str = one(connection, statement("expressions.printed"), {"view": f"pgvector_sync.{PIN}"})["printed"]
    connection.execute(statement("expressions.drop_view").format(view=view))
    _look_up(connection, ours)
    printed = printed.strip().removeprefix("SELECT ")
    return printed[: printed.rindex(f" AS {_COLUMN}\n")].strip()
