"""Reads each pipeline's source, target and triggers as they are now, and stores what the schema watch found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import KeyColumn, Need, Source, State
from pgvector_sync.store.shape import is_bytewise
from pgvector_sync.store.triggers import Installed, installed_of, installed_query


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The table that has the source's name now."""

    oid: int
    kind: str
    """`pg_class.relkind`."""
    owner: str
    types: Mapping[str, str]
    """The types of the columns, in the order of the table."""
    toastable: frozenset[str]
    """Columns whose values may be stored out of line."""
    bytewise: frozenset[str]
    """Columns whose values are equal only if their binary images are."""
    keyed: bool
    """Whether the key columns are unique and NOT NULL."""
    partitions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """One pipeline and everything that it needs, in one snapshot."""

    id: int
    name: str
    state: State
    problem: str | None
    problem_stops: bool
    recheck: bool
    """Whether a deep reconciliation is due."""
    unread: bool
    """Whether changes were captured without a readable key, and the tables haven't been compared since."""
    read_columns: tuple[str, ...]
    needs: tuple[Need, ...]
    source: Source
    replicated: bool
    table: SourceTable | None
    triggers: tuple[Installed, ...]
    target: tuple[str, str]
    target_types: Mapping[str, str] | None
    """The types of the columns; None if there is no such table."""
    target_stranger: tuple[str, str] | None
    """Its owner and the triggers' owner, if the first doesn't have the rights of the second."""
    vector_type: str
    """The type that the target's column should have, such as `vector(1536)`."""
    vector_installed: bool
    spill_limited: bool
    """Whether temporary files have a limit."""


def read_facts(connection: Connection, name: str | None = None) -> list[Facts]:
    """Returns the facts of every pipeline, or of one."""
    query = statement("watch.facts").format(
        installed=installed_query(sql.SQL("s.id")),
        covers=part("watch.covers"),
    )
    return [_facts(row) for row in connection.execute(query, {"name": name})]


def note(connection: Connection, facts: Facts, *, problem: str | None, stops: bool, missed: bool) -> bool:
    """Stores what the watch found. Returns False if it was already stored.

    missed: whether changes may have been missed, which makes a deep reconciliation due.
    """
    params = {"id": facts.id, "problem": problem, "stops": stops, "missed": missed}
    return connection.execute(statement("watch.note"), params).rowcount == 1


def rechecked(connection: Connection, pipeline_id: int) -> None:
    """Notes that a deep reconciliation begins in this transaction."""
    connection.execute(statement("watch.rechecked"), {"id": pipeline_id})


def forget_unread(connection: Connection) -> int:
    """Deletes events without a readable key after a deep reconciliation of their source; returns how many."""
    query = statement("watch.forget_unread").format(covers=part("watch.covers"))
    return connection.execute(query).rowcount


def repair_sequences(connection: Connection) -> list[str]:
    """Sets the sequences that would return ids that are in use, as far as this role may. Returns their tables."""
    return [row["name"] for row in connection.execute(statement("watch.repair_sequences"))]


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
        spill_limited=row["spill_limited"],
    )


def _table(row: Mapping[str, Any]) -> SourceTable:
    return SourceTable(
        oid=row["source_oid"],
        kind=row["source_kind"],
        owner=row["source_owner"],
        types={name: type_ for name, type_, _, _ in row["columns"]},
        toastable=frozenset(name for name, _, can_toast, _ in row["columns"] if can_toast),
        bytewise=frozenset(
            name for name, type_, _, deterministic in row["columns"] if is_bytewise(type_, deterministic)
        ),
        keyed=row["keyed"],
        partitions=tuple((schema, table) for schema, table in row["partitions"]),
    )
