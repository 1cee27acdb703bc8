"""Keys that no partition of a partitioned source accepts: no row can have them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.packing import PackedKeys
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key
from pgvector_sync.store import stored
from pgvector_sync.store.shape import Shape, name


def unplaced(connection: Connection, shape: Shape, keys: Sequence[Key]) -> set[Key]:
    """Returns those of the keys, which have vectors, that no partition of the source accepts.

    A unique key of a partitioned table contains the columns by which it is partitioned, so the key decides the
    partition, and the catalog has all partitions. No row is read, so a lost grant or a policy can't make a row
    look deleted.
    """
    if not keys:
        return set()
    source = shape.pipeline.source
    params = {"pipeline_id": shape.pipeline.id, "schema": source.schema, "table": source.table}
    row = connection.execute(statement("partitions.bounds").format(source=shape.source), params).fetchone()
    if row is None or None in row["bounds"]:  # a DEFAULT partition without others accepts every key
        return set()
    placed = sql.SQL(" OR ").join(_accepts(bound) for bound in row["bounds"])
    query = statement("partitions.unplaced").format(**stored.fragments(shape), placed=placed)
    return {tuple(row["key"]) for row in connection.execute(query, {"keys": PackedKeys(keys)})}


def _accepts(bound: str) -> sql.Composed:
    return sql.SQL("coalesce({}, true)").format(sql.SQL("(" + bound.replace("%", "%%") + ")"))


def remember(connection: Connection, shape: Shape) -> None:
    """Records the source's current table after all vectors were compared with it."""
    source = shape.pipeline.source
    params = {"pipeline_id": shape.pipeline.id, "schema": source.schema, "table": source.table}
    connection.execute(statement("partitions.remember"), params)


def remember_if_empty(connection: Connection, pipeline_id: int, target: tuple[str, str], oid: int) -> None:
    """Records the table with this OID as the source of all vectors, unless the target has some already."""
    query = statement("partitions.remember_if_empty").format(target=name(*target))
    connection.execute(query, {"pipeline_id": pipeline_id, "oid": oid})
