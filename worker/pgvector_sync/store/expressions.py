"""Expressions pinned at `apply`: spelled out, so that they mean the same under a worker's search_path."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgvector_sync.errors import Refused
from pgvector_sync.model import Source
from pgvector_sync.store.database import Connection, one
from pgvector_sync.store.statements import statement

PROBE, PIN = "expression_probe", "expression_pin"
"""Views in our schema that are rolled back."""
_COLUMN = "pgvector_sync_text"


@dataclass(frozen=True, slots=True)
class Paths:
    """Settings of search_path: the database's or role's default, and ours."""

    default: str
    ours: str
    differ: tuple[str, ...]
    """Schemas on the default one, and not on ours."""


def begin(connection: Connection) -> Paths:
    """To the end of the transaction, names are looked up as by default."""
    row = one(connection, statement("expressions.paths"))
    _look_up(connection, row["default_path"])
    theirs = one(connection, statement("expressions.schemas"))["schemas"]
    differ = tuple(schema for schema in theirs if schema not in row["schemas"])
    return Paths(row["default_path"], row["our_path"], differ)


def pin(connection: Connection, source: Source, user_sql: str, paths: Paths) -> str:
    """The expression with every name qualified. Raises Refused where it can't be spelled out."""
    meant = _spelled_out(connection, source, user_sql, paths.default)
    for spelling in (meant, user_sql):
        try:
            with connection.transaction():
                if _spelled_out(connection, source, spelling, paths.ours) == meant:
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
            return _spelled_out(connection, source, stored, "") == _spelled_out(connection, source, pinned, "")
    except psycopg.Error:
        return False


def depends(connection: Connection) -> tuple[str, ...]:
    """What the probing view needs outside pg_catalog: functions, operators, types, collations."""
    rows = connection.execute(statement("expressions.depends"), {"view": f"pgvector_sync.{PROBE}"})
    return tuple(row["needed"] for row in rows)


def require_same_bodies(connection: Connection, paths: Paths) -> None:
    """Raises Refused for functions whose bodies look names up by a search_path that a worker doesn't have."""
    if not paths.differ:
        return
    rows = connection.execute(statement("expressions.loose"), {"view": f"pgvector_sync.{PROBE}"})
    if loose := [row["function"] for row in rows]:
        path = ", ".join(sql.Identifier(schema).as_string() for schema in (*paths.differ, "public"))
        raise Refused(
            f"{', '.join(loose)} would look names up without {', '.join(paths.differ)}, which the default "
            "search_path has and a worker's hasn't",
            hint="\n".join(f"ALTER FUNCTION {function} SET search_path = {path};" for function in loose),
        )


def _look_up(connection: Connection, path: str) -> None:
    connection.execute(statement("expressions.look_up"), {"path": path})


def _spelled_out(connection: Connection, source: Source, user_sql: str, path: str) -> str:
    """The expression as Postgres prints it where nothing is on the search_path."""
    view = sql.Identifier("pgvector_sync", PIN)
    _look_up(connection, path)
    # binary: by the extended protocol, which takes one statement only
    connection.cursor(binary=True).execute(
        sql.SQL("CREATE VIEW {view} AS SELECT ({expression}\n) AS {column} FROM {source}").format(
            view=view,
            expression=sql.SQL(user_sql),
            column=sql.Identifier(_COLUMN),
            source=sql.Identifier(source.schema, source.table),
        )
    )
    _look_up(connection, "")
    printed: str = one(connection, statement("expressions.printed"), {"view": f"pgvector_sync.{PIN}"})["printed"]
    connection.execute(sql.SQL("DROP VIEW {}").format(view))
    _look_up(connection, path)
    printed = printed.strip().removeprefix("SELECT ")
    return printed[: printed.rindex(f" AS {_COLUMN}\n")].strip()
