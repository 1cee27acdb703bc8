"""Whose code a statement over a source would run: looked up in its own transaction, before it is planned."""

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
    """One thing whose owner could have his code run by a worker."""

    of_target: bool
    words: str
    advice: str
    """The statement that ends it, or what to do."""
    no_table: bool = False
    """Something else than a table has its name."""


def trusts(role: str) -> sql.Composed:
    """A condition: a role, given as an expression, may create in our schema."""
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
    """What belongs to a role that may not create in our schema."""
    query = _query("trust.strangers", source, tuple(columns), tuple(needs), target, whole=whole)
    return [_stranger(source, target, **row) for row in connection.execute(query)]


def require_trusted(connection: Connection, pipeline: Pipeline, *, whole: bool = False) -> None:
    """Before the source is read and the target is written to, in the same transaction.

    `whole` where a condition may read any column. The columns' types stay as they are from here until it ends.
    Raises DatabaseRefuses.
    """
    source, target = pipeline.source, (pipeline.target_schema, pipeline.target_table)
    # one round trip: without parameters, several statements are sent at once
    look = sql.SQL(";\n").join([lock(source), _query("trust.closer", source, pipeline.read_columns, (), target)])
    cursor = connection.execute(sql.SQL(look.as_string(None)))
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    if row is None or not (row["closer"] or pipeline.needs or whole):
        return
    if found := strangers(connection, source, pipeline.read_columns, pipeline.needs, target, whole=whole):
        raise DatabaseRefuses(found[0].words, hint=found[0].advice)


def require_own_target(connection: Connection, pipeline: Pipeline) -> None:
    """Once more before each statement that writes to it. Raises DatabaseRefuses.

    A lock keeps a table, and not its name: the owner of a schema may rename it while we wait for a row, and put
    another schema and table in its place.
    """
    source, target = pipeline.source, (pipeline.target_schema, pipeline.target_table)
    if one(connection, _query("trust.own_target", source, (), (), target))["own"]:
        return
    found = strangers(connection, source, (), (), target)
    stranger = next((each for each in found if each.of_target), None)
    label = pipeline.target_label
    words = f"{label} is another table than before" if stranger is None else stranger.words
    raise DatabaseRefuses(words, hint="pgvector-sync apply" if stranger is None else stranger.advice)


def lock(source: Source) -> sql.Composed:
    """Under a name of its own each time: where a cancel arrives between the two statements, the first one outlives
    the transaction, and would refuse its name to every later one of this connection.
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
    """Composed once: it has no parameters."""
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
        words = f"{source.label} is {_KINDS.get(by or '', 'no table')} now"
        return Stranger(False, words, "put the table back")
    if kind == "child":
        words = f"{name} inherits from {source.label} now, and would be read with it"
        return Stranger(False, words, f"ALTER TABLE {name} NO INHERIT …; -- {source.label}")
    if kind == "target":
        label = ".".join(target)
        if by not in ("r", "p"):
            words = f"{label} is {_KINDS.get(by or '', 'no table')} now"
            return Stranger(True, words, "pgvector-sync apply", no_table=True)
        return Stranger(
            True,
            f"{label} belongs to role {owner}, whose triggers would run with the worker's rights",
            f"look at its triggers, then ALTER TABLE {sql.Identifier(*target).as_string()} OWNER TO …; "
            "or drop it and run `pgvector-sync apply`",
        )
    if kind == "gone":
        return Stranger(
            False, f"there is no {by} {name} any more", "restore it, or change text or where and apply"
        )
    if kind == "domain":
        words = f"the domain {name} belongs to role {owner}, who could replace its check"
        return Stranger(False, words, f"ALTER DOMAIN {name} OWNER TO …; -- the owner of schema pgvector_sync")
    reason = {
        "function": "",
        "operator": f", behind the operator {by},",
        "cast": f", behind the cast ({by}),",
        "check": f", in the check of the domain {by},",
        "index": f", in an index or statistics ({by}) that Postgres looks at when it plans a read,",
    }[kind]
    return Stranger(
        False,
        f"the function {name}{reason} belongs to role {owner}, whose code would run with the worker's rights",
        hand_over,
    )
