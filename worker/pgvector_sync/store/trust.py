"""Checks whose code a statement over a source would run, in the same transaction and before it is planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from secrets import token_hex

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Need, Pipeline, Source

Target = tuple[str, str]
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True)
class Stranger:
    """An object whose owner isn't trusted, and could have code run by a worker."""

    of_target: bool
    words: str
    advice: str
    """The statement that fixes it, or what to do."""
    no_table: bool = False
    """Whether something other than a table has its name."""


def trusts(role: str) -> sql.Composed:
    """Composes the condition that a role is trusted: it may create in our schema.

    role: an SQL expression for the role's OID.
    """
    return part("trust.trusts").format(role=sql.SQL(role))


def strangers(
    connection: Connection,
    source: Source,
    columns: Sequence[str],
    needs: Sequence[Need],
    target: Target,
    *,
    whole: bool = False,
) -> list[Stranger]:
    """Returns what a read or write would run and that belongs to a role that isn't trusted."""
    query = _query("trust.strangers", source, tuple(columns), tuple(needs), target, whole=whole)
    return [_stranger(source, target, **row) for row in connection.execute(query)]


def require_trusted(connection: Connection, pipeline: Pipeline, *, whole: bool = False) -> None:
    """Raises DatabaseRefuses if reading the source, or writing the target, could run code of an untrusted role.

    Call it before that, in the same transaction. It locks the source, so that the types of columns can't change
    until the transaction ends.

    whole: whether a condition may read any column.
    """
    source, target = pipeline.source, (pipeline.target_schema, pipeline.target_table)
    # without parameters, several statements can be sent at once
    connection.execute(sql.SQL(lock(source).as_string(None)))
    query = _query("trust.closer", source, pipeline.read_columns, (), target)
    row = connection.execute(query, prepare=True).fetchone()
    if row is None or not (row["closer"] or pipeline.needs or whole):
        return
    if untrusted := strangers(connection, source, pipeline.read_columns, pipeline.needs, target, whole=whole):
        raise DatabaseRefuses(untrusted[0].words, hint=untrusted[0].advice)


def require_own_target(connection: Connection, pipeline: Pipeline) -> None:
    """Raises DatabaseRefuses if the target isn't our table. Call it before each statement that writes to it.

    A lock doesn't protect a table's name: the owner of the schema may rename the schema while we wait for a row,
    and create another schema and table with those names.
    """
    source, target = pipeline.source, (pipeline.target_schema, pipeline.target_table)
    if one(connection, _query("trust.own_target", source, (), (), target), prepare=True)["own"]:
        return
    untrusted = strangers(connection, source, (), (), target)
    stranger = next((each for each in untrusted if each.of_target), None)
    label = pipeline.target_label
    words = f"{label} is no longer the same table" if stranger is None else stranger.words
    raise DatabaseRefuses(words, hint="run `pgvector-sync apply`" if stranger is None else stranger.advice)


def lock(source: Source) -> sql.Composed:
    """Composes the lock of a source. The prepared statement has a different name each time.

    If a cancel arrives between PREPARE and DEALLOCATE, the prepared statement outlives the transaction, and its
    name couldn't be used again on this connection.
    """
    home = sql.Identifier(source.schema, source.table)
    return statement("trust.lock").format(
        prepared=sql.Identifier(f"pgvector_sync_{token_hex(8)}"),
        source=home,
        source_name=sql.Literal(home.as_string()),
    )


@lru_cache(maxsize=256)
def _query(
    name: str,
    source: Source,
    columns: tuple[str, ...],
    needs: tuple[Need, ...],
    target: Target,
    *,
    whole: bool = False,
) -> sql.SQL:
    """Composes a query without parameters, so that the result can be cached."""
    query: sql.Composable = statement(name).format(
        source_schema=sql.Literal(source.schema),
        source_table=sql.Literal(source.table),
        read_columns=sql.Literal(list(columns)),
        needs=sql.Literal(Jsonb([need.as_json() for need in needs])),
        whole=sql.SQL("true" if whole else "false"),
        target_schema=sql.Literal(target[0]),
        target_table=sql.Literal(target[1]),
        inside=part("trust.inside"),
        trusts_type=trusts("t.typowner"),
        trusts_function=trusts("called.proowner"),
        trusts_target=trusts("c.relowner"),
    )
    return sql.SQL(query.as_string(None))


def _stranger(
    source: Source, target: Target, *, kind: str, name: str, by: str | None, owner: str | None
) -> Stranger:
    hand_over = f"ALTER FUNCTION {name} OWNER TO …; -- the owner of schema pgvector_sync"
    if kind == "source":
        words = f"{source.label} is {_KINDS.get(by or '', 'not a table')} now"
        return Stranger(False, words, "restore the table")
    if kind == "child":
        words = f"{name} now inherits from {source.label}, and would be read with it"
        return Stranger(False, words, f"ALTER TABLE {name} NO INHERIT …; -- {source.label}")
    if kind == "target":
        label = ".".join(target)
        if by not in ("r", "p"):
            words = f"{label} is {_KINDS.get(by or '', 'not a table')} now"
            return Stranger(True, words, "run `pgvector-sync apply`", no_table=True)
        return Stranger(
            True,
            f"{label} belongs to role {owner}, whose triggers would run with the worker's rights",
            f"check its triggers, then ALTER TABLE {sql.Identifier(*target).as_string()} OWNER TO …; "
            "or drop it and run `pgvector-sync apply`",
        )
    if kind == "gone":
        return Stranger(
            False, f"the {by} {name} no longer exists", "restore it, or change text or where, and apply"
        )
    if kind == "domain":
        words = f"the domain {name} belongs to role {owner}, which could replace its check"
        return Stranger(False, words, f"ALTER DOMAIN {name} OWNER TO …; -- the owner of schema pgvector_sync")
    reason = {
        "function": "",
        "operator": f" of the operator {by}",
        "cast": f" of the cast ({by})",
        "check": f" in the check of the domain {by}",
        "index": f", in an index or statistics ({by}) that Postgres evaluates when it plans a read,",
    }[kind]
    return Stranger(
        False,
        f"the function {name}{reason} belongs to role {owner}, whose code would run with the worker's rights",
        hand_over,
    )
