"""The functions and triggers that are installed on a source: creates, lists and drops them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Source
from pgvector_sync.store.capture import FUNCTIONS, ROW_TRIGGERS, Capture, Target, function_name


@dataclass(frozen=True, slots=True)
class Installed:
    """One of our triggers, as the catalog describes it."""

    schema: str
    table: str
    trigger: str
    enabled: str
    """`O` origin, `A` always, `R` replica, `D` disabled."""
    inherited: bool
    """Whether a partition has inherited it."""
    signature: str
    """The signature of its function."""
    watched: tuple[str, ...]
    """The columns that its condition reads, by their current names."""


def installed(connection: Connection, source_id: int) -> list[Installed]:
    """Returns our triggers of a source, on whatever table."""
    query = installed_query(sql.Literal(source_id))
    return [installed_of(row) for row in connection.execute(query)]


def places_of(triggers: Iterable[Installed]) -> list[str]:
    """Returns the labels of the tables that have these triggers, without partitions that have inherited them."""
    return sorted({f"{each.schema}.{each.table}" for each in triggers if not each.inherited})


def installed_query(source_id: sql.Composable) -> sql.Composed:
    """Composes the query of `installed`, for the source with the id `source_id`."""
    return statement("triggers.installed").format(source_id=source_id)


def installed_of(row: Mapping[str, Any]) -> Installed:
    """Reads a row of `installed_query`."""
    return Installed(**{**row, "watched": tuple(row["watched"])})


def create(connection: Connection, capture: Capture) -> None:
    """Creates or replaces functions and triggers. Raises psycopg.errors.LockNotAvailable, after which to retry."""
    if not capture.removes_by_statement:
        connection.execute(statement("triggers.drop_function").format(function=capture.function("remove")))
    for each in capture.statements():
        connection.execute(each)


def revoke_from_others(connection: Connection, capture: Capture) -> None:
    """Revokes EXECUTE on our functions from all roles that don't need it."""
    kinds = ROW_TRIGGERS if capture.partitioned else ()
    needed = {(function_name(kind, capture.source), capture.owner) for kind in kinds}
    names = [function_name(kind, capture.source) for kind in FUNCTIONS]
    for row in connection.execute(statement("triggers.executors"), {"functions": names}).fetchall():
        if (row["function"], row["role"]) not in needed:
            function, grantee = sql.Identifier("pgvector_sync", row["function"]), sql.Identifier(row["role"])
            connection.execute(statement("triggers.revoke_from").format(function=function, grantee=grantee))


def drop(connection: Connection, source: Source) -> None:
    """Drops our functions and every trigger that calls one, even on tables renamed or detached meanwhile.

    DROP TRIGGER would require the owner of the table.
    """
    for kind in FUNCTIONS:
        name = sql.Identifier("pgvector_sync", function_name(kind, source))
        connection.execute(statement("triggers.drop_function").format(function=name))


def touch(connection: Connection, relation: Target) -> None:
    """Locks a table against writers until the end of the transaction, which must be rolled back."""
    connection.execute(statement("triggers.touch_function"))
    connection.execute(statement("triggers.touch").format(relation=sql.Identifier(*relation)))


@dataclass(frozen=True, slots=True)
class OwnedByAnother:
    """A function or a target that the current role can't drop."""

    label: str
    owner: str
    target: bool
    """Whether it is the target."""
    role: str
    """The current role."""


def owned_by_another(connection: Connection, source: Source, target: Target | None) -> OwnedByAnother | None:
    """Returns the first of a source's functions and its target whose owner the current role can't act as."""
    schema, table = target or (None, None)
    params = {
        "functions": [function_name(kind, source) for kind in FUNCTIONS],
        "schema": schema,
        "table": table,
    }
    row = connection.execute(statement("triggers.owned_by_another"), params).fetchone()
    return None if row is None else OwnedByAnother(**row)
