"""What the schema watch reads and writes: each pipeline's source, target and triggers as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import KeyColumn, Need, Source, State
from pgvector_sync.store.triggers import Installed, installed_of, installed_query


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The table that has the source's name now."""

    oid: int
    kind: str
    """`pg_class.relkind`."""
    owner: str
    types: Mapping[str, str]
    """Column → type, in the order of the table."""
    toastable: frozenset[str]
    keyed: bool
    """The key columns are unique and not null."""
    partitions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """One pipeline with everything that it needs, in one snapshot."""

    id: int
    name: str
    state: State
    problem: str | None
    problem_stops: bool
    recheck: bool
    """A deep reconciliation is owed."""
    unread: bool
    """Changes were captured without a readable key, and nothing has compared the tables since."""
    read_columns: tuple[str, ...]
    needs: tuple[Need, ...]
    source: Source
    replicated: bool
    table: SourceTable | None
    triggers: tuple[Installed, ...]
    target: tuple[str, str]
    target_types: Mapping[str, str] | None
    """Column → type; None where there is no such table."""
    target_stranger: tuple[str, str] | None
    """Its owner and the triggers' owner, where the first hasn't the rights of the second."""
    vector_type: str
    """As the target should have it, such as `vector(1536)`."""
    vector_installed: bool


def read_facts(connection: Connection, name: str | None = None) -> list[Facts]:
    """Every pipeline, or one."""
    query = statement("watch.facts").format(
        installed=installed_query(sql.SQL("s.id")),
        covers=part("watch.covers"),
    )
    return [_facts(row) for row in connection.execute(query, {"name": name})]


def note(connection: Connection, facts: Facts, *, problem: str | None, stops: bool, missed: bool) -> bool:
    """Stores what was found; `missed` changes make a deep reconciliation owed. False if it was known already."""
    params = {"id": facts.id, "problem": problem, "stops": stops, "missed": missed}
    return connection.execute(statement("watch.note"), params).rowcount == 1


def rechecked(connection: Connection, pipeline_id: int) -> None:
    """A deep reconciliation begins in this transaction: none is owed any more."""
    connection.execute(statement("watch.rechecked"), {"id": pipeline_id})


def forget_unread(connection: Connection) -> int:
    """Removes events without a readable key that a finished deep reconciliation makes up for."""
    query = statement("watch.forget_unread").format(covers=part("watch.covers"))
    return connection.execute(query).rowcount


@dataclass(frozen=True, slots=True)
class Behind:
    """A table whose sequence would give out ids that are taken."""

    table: str
    may_set: bool
    repaired: bool


def sequences(connection: Connection, *, repair: bool) -> list[Behind]:
    """The sequences of our tables that are behind; with `repair`, set where this role may."""
    rows = connection.execute(statement("watch.sequences"), {"repair": repair})
    return [Behind(row["name"], row["may_set"], row["repaired"]) for row in rows]


def _facts(row: Mapping[str, Any]) -> Facts:
    key = tuple(KeyColumn(*pair) for pair in zip(row["key_columns"], row["key_types"], strict=True))
    return Facts(
        id=row["id"],
        name=row["name"],
        state=State(row["state"]),
        problem=row["problem"],
        problem_stops=row["problem_stops"],
        recheck=row["recheck"],
        unread=row["unread"],
        read_columns=tuple(row["read_columns"]),
        needs=tuple(Need(*need) for need in row["needs"]),
        source=Source(row["source_id"], row["schema_name"], row["table_name"], key),
        replicated=row["capture_replicated"],
        table=None if row["source_oid"] is None else _table(row),
        triggers=tuple(installed_of(trigger) for trigger in row["triggers"]),
        target=(row["target_schema"], row["target_table"]),
        target_types=None if row["target_oid"] is None else row["target_columns"],
        target_stranger=None if row["stranger"] is None else tuple(row["stranger"]),
        vector_type=f"{row['vector_type']}({row['dimensions']})",
        vector_installed=row["vector_installed"],
    )


def _table(row: Mapping[str, Any]) -> SourceTable:
    return SourceTable(
        oid=row["source_oid"],
        kind=row["source_kind"],
        owner=row["source_owner"],
        types={name: type_ for name, type_, _ in row["columns"]},
        toastable=frozenset(name for name, _, can_toast in row["columns"] if can_toast),
        keyed=row["keyed"],
        partitions=tuple((schema, table) for schema, table in row["partitions"]),
    )
