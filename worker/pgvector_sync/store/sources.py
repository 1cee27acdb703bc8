"""Sources: the tables that pipelines read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import KeyColumn, Source


@dataclass(frozen=True, slots=True)
class Reader:
    """A pipeline that reads a source."""

    name: str
    read_columns: tuple[str, ...]
    capture_replicated: bool


def find(connection: Connection, schema: str, table: str) -> int | None:
    """Returns the id of a source; None if no pipeline has ever read the table."""
    row = connection.execute(statement("sources.find"), {"schema": schema, "table": table}).fetchone()
    return None if row is None else int(row["id"])


def put(connection: Connection, source: Source, *, tracked: Sequence[str], replicated: bool) -> int:
    """Adds or updates a source; returns its id."""
    params = {
        "schema": source.schema,
        "table": source.table,
        **_key(source.key),
        "tracked_columns": list(tracked),
        "capture_replicated": replicated,
    }
    return int(one(connection, statement("sources.put"), params)["id"])


def pipelines(connection: Connection, source_id: int) -> list[Reader]:
    """Returns the pipelines that read a source, in the order in which they were added."""
    rows = connection.execute(statement("sources.pipelines"), {"source_id": source_id})
    return [Reader(row["name"], tuple(row["read_columns"]), row["capture_replicated"]) for row in rows]


def rekey(connection: Connection, source: Source, before: Sequence[KeyColumn], *, tracked: Sequence[str]) -> bool:
    """Changes the key of a source. Returns False if its key isn't `before` any more."""
    params = {
        "id": source.id,
        "columns_before": [column.name for column in before],
        "types_before": [column.type for column in before],
        **_key(source.key),
        "tracked_columns": list(tracked),
    }
    return connection.execute(statement("sources.rekey"), params).rowcount == 1


def forget(connection: Connection, source_id: int) -> None:
    """Deletes a source and its events, unless a pipeline reads it."""
    connection.execute(statement("sources.forget"), {"source_id": source_id})


def _key(key: Sequence[KeyColumn]) -> dict[str, object]:
    return {"key_columns": [column.name for column in key], "key_types": [column.type for column in key]}
