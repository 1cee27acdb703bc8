"""Expressions pinned at `apply`: spelled out, so that they mean the same under a worker's search_path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

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
"""A view in our schema that is rolled back."""
_COLUMN = "pgvector_sync_text"
"""Of that view."""
TRY_TIME = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Paths:
    """Settings of search_path: the database's or role's default, and ours."""

    default: str
    ours: str
    differ: tuple[str, ...]
    """Schemas on the default one, and not on ours."""


def begin(connection: Connection) -> Paths:
    """Where names are looked up by default. Only what the user has written is: our own statements never, since
    somebody who may create in one of those schemas could have them call functions and operators of his own.
    """
    row = one(connection, statement("expressions.paths"))
    _look_up(connection, row["default_path"])
    theirs = one(connection, statement("expressions.schemas"))["schemas"]
    _look_up(connection, row["our_path"])
    differ = tuple(schema for schema in theirs if schema not in row["schemas"])
    return Paths(row["default_path"], row["our_path"], differ)


def create_view(connection: Connection, query: sql.Composed, path: str, ours: str) -> None:
    """Has Postgres understand a user's expression as by `path`; executes nothing of it."""
    _look_up(connection, path)
    # binary: by the extended protocol, which takes one statement only
    connection.cursor(binary=True).execute(query)
    _look_up(connection, ours)


def pin(connection: Connection, source: Source, user_sql: str, paths: Paths) -> str:
    """The expression with every name qualified. Raises Refused where it can't be spelled out."""
    meant = _spelled_out(connection, source, user_sql, paths.default, paths.ours)
    for spelling in (meant, user_sql):
        try:
            with connection.transaction():
                if _spelled_out(connection, source, spelling, paths.ours, paths.ours) == meant:
                    return spelling
        except psycopg.Error:
            continue
    raise Refused(
        "the expression means something else under the search_path of a worker",
        hint="qualify its functions, types and operators: extensions.unaccent(body), a OPERATOR(extensions.=) b",
    )


def same_meaning(connection: Connection, source: Source, stored: str, pinned: str) -> bool:
    """Whether a stored expression is the pinned one, which another version of Postgres may print differently."""
    if stored == pinned:
        return True
    try:
        with connection.transaction(force_rollback=True):
            return _spelled_out(connection, source, stored) == _spelled_out(connection, source, pinned)
    except psycopg.Error:
        return False


def require_same_bodies(loose: tuple[str, ...], paths: Paths) -> None:
    """`loose` are functions whose bodies look names up when they run, and that have no search_path of their own.

    Raises Refused where the default search_path leads them to schemas beside public, whose operators may decide
    what a comparison means.
    """
    if loose and (others := [schema for schema in paths.differ if schema != "public"]):
        path = ", ".join(sql.Identifier(schema).as_string() for schema in (*others, "public"))
        raise Refused(
            f"{', '.join(loose)} would look names up without {', '.join(others)}, which the default "
            "search_path has and a worker's hasn't",
            hint=_pinned_by(loose, path),
        )


def require_same_results(
    connection: Connection, source: Source, text: str, where: str | None, loose: tuple[str, ...]
) -> bool:
    """Runs the expressions on the first rows as the application would, then as a worker does; False where there
    is no row to try, or others' functions are on the way. Only what is trusted may come here.

    Raises Refused where a function of `loose` says something else then, or fails.
    """
    if not loose:
        return True
    before = one(connection, statement("expressions.paths"))
    _look_up(connection, before["default_path"])
    path = one(connection, statement("expressions.schemas"))["schemas"]
    _look_up(connection, before["our_path"])
    query = statement("expressions.shared").format(trusts_owner=trusts("made.owner"))
    if one(connection, query, {"schemas": path})["shared"]:
        return False  # what a body calls could be of anybody's making
    try:
        meant = _some(connection, source, text, where, before["default_path"])
    except psycopg.Error:
        return False  # a row that fails anyway, or takes too long: it says nothing
    try:
        same = _some(connection, source, text, where, before["our_path"]) == meant
        words = "gives another result"
    except psycopg.errors.QueryCanceled:
        return False
    except psycopg.Error as error:
        same, words = False, f"fails ({error.sqlstate})"
    if not same:
        raise Refused(
            f"{', '.join(loose)} {words} under the search_path of a worker, which is pg_catalog alone",
            hint=_pinned_by(loose, "public, pg_temp"),
        )
    return bool(meant)


def explain(connection: Connection, relation: sql.Identifier, condition: sql.Composable) -> None:
    """Plans a condition on a row of a table, and executes nothing. Raises psycopg.Error where it isn't one.

    Percent signs in both are doubled.
    """
    query = statement("expressions.explain").format(source=relation, condition=condition)
    # binary: by the extended protocol, which takes one statement only
    connection.cursor(binary=True).execute(query, {})


def _pinned_by(functions: tuple[str, ...], path: str) -> str:
    return "\n".join(f"ALTER FUNCTION {function} SET search_path = {path};" for function in functions)


def _some(connection: Connection, source: Source, text: str, where: str | None, path: str) -> list[DictRow]:
    query = statement("expressions.some").format(
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
    """The expression as Postgres prints it where nothing is on the search_path."""
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
