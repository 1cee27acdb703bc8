"""The indexes of targets: what they are, what they take, and whether they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Storage
from pgvector_sync.store import leaf
from pgvector_sync.store.index_ddl import contents, storage_in


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index of a target whose method isn't one of Postgres's own."""

    schema: str
    name: str
    method: str
    operator_class: str
    parameters: tuple[str, ...]
    """As in `WITH (…)`, such as `m=16`. Those that aren't listed have their defaults."""
    indexed: str
    """The column or expression."""
    condition: str | None
    """The `WHERE` of a partial index."""
    over_expression: bool
    storage: Storage | None
    """What it contains of the vectors; None: another column or expression, which our searches don't use."""
    valid: bool
    building: bool
    bytes: int
    scans: int | None
    """Since the statistics were reset; None if they can't be read."""
    hits: int | None
    """Pages found in the buffer cache, and below those that weren't."""
    reads: int | None
    built_at: datetime | None

    @property
    def partial(self) -> bool:
        """Whether it leaves out rows."""
        return self.condition is not None

    def parameter(self, name: str) -> int | None:
        """Returns a parameter; None if it has its default."""
        values = dict(each.split("=", 1) for each in self.parameters)
        return int(values[name]) if name in values else None


@dataclass(frozen=True, slots=True)
class TargetRows:
    """The rows of a target by the statistics of the server."""

    rows: int
    live_rows: int
    dead_rows: int
    counted_since: datetime | None


@dataclass(frozen=True, slots=True)
class KeyWidth:
    """A key column of a source."""

    name: str
    length: int
    """Bytes; -1 if values differ in length."""
    alignment: str
    """As in pg_type: `c`, `s`, `i` or `d`."""
    type: str
    average_width: int | None


def vector_indexes(connection: Connection, oid: int) -> list[VectorIndex]:
    """Returns the indexes of a target that may order rows by distance."""
    query = statement("index_status.vector_indexes").format(contents=contents())
    return [
        VectorIndex(**row | {"parameters": tuple(row["parameters"]), "storage": storage_in(row)})
        for row in connection.execute(query, {"oid": oid})
    ]


def target_rows(connection: Connection, oid: int) -> TargetRows:
    """Returns the rows of a target and its dead rows."""
    query = statement("index_status.table").format(leaf_rows=leaf.rows())
    return TargetRows(**one(connection, query, {"oid": oid}))


def key_widths(connection: Connection, oid: int, columns: Sequence[str]) -> list[KeyWidth]:
    """Returns the widths of a source's key columns, in the order of the key."""
    params = {"oid": oid, "key_columns": list(columns)}
    return [KeyWidth(**row) for row in connection.execute(statement("index_status.key_widths"), params)]
