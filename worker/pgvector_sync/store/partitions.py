"""Keys that a partitioned source has no place for: not unread, but impossible."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key
from pgvector_sync.store import stored
from pgvector_sync.store.shape import Shape, name
from pgvector_sync.store.work import jsonb_keys


def unplaced(connection: Connection, shape: Shape, keys: Sequence[Key]) -> set[Key]:
    """Those of the keys, which have vectors, that no partition of the source may hold.

    A unique key of a partitioned table contains the columns that it is partitioned by, so a key tells its
    partition, and the catalog tells which there are. No row needs to be read for it, so no lost grant, policy or
    gap can feign it.
    """
    if not keys:
        return set()
    source = shape.pipeline.source
    params = {"pipeline_id": shape.pipeline.id, "schema": source.schema, "table": source.table}
    found = connection.execute(statement("partitions.bounds").format(source=shape.source), params).fetchone()
    if found is None or None in found["bounds"]:  # a DEFAULT partition without others holds anything
        return set()
    placed = sql.SQL(" OR ").join(_holds(bound) for bound in found["bounds"])
    query = statement("partitions.unplaced").format(**stored.fragments(shape), placed=placed)
    return {tuple(row["key"]) for row in connection.execute(query, {"keys": jsonb_keys(keys)})}


def _holds(bound: str) -> sql.Composed:
    return sql.SQL("coalesce({}, true)").format(sql.SQL("(" + bound.replace("%", "%%") + ")"))


def remember(connection: Connection, shape: Shape) -> None:
    """All vectors were compared with the table that the source is now."""
    source = shape.pipeline.source
    params = {"pipeline_id": shape.pipeline.id, "schema": source.schema, "table": source.table}
    connection.execute(statement("partitions.remember"), params)


def remember_if_empty(connection: Connection, pipeline_id: int, target: tuple[str, str], oid: int) -> None:
    """All vectors that there will be are of the table with this oid; does nothing where there are some already."""
    query = statement("partitions.remember_if_empty").format(target=name(*target))
    connection.execute(query, {"pipeline_id": pipeline_id, "oid": oid})
