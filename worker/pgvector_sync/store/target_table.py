"""What stands at a target's name: whether it fits, what refuses writes to it, and what it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection, one, reading
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Pipeline, Source, Spec, VectorType
from pgvector_sync.store import catalog, sizes
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange, key_changes
from pgvector_sync.store.shape import TARGET_COLUMNS, name
from pgvector_sync.store.target_ddl import Target

COUNT_LIMIT_ROWS = 100_000
_COMMENT = re.compile(r"Embeddings of (.+), kept by pgvector-sync ")
"""Ours, on every target."""
_PLAIN = {
    "chunk_no": "integer",
    "chunk": "text",
    "fingerprint": "bytea",
    "model": "text",
    "embedded_at": "timestamp with time zone",
}
_MAY_BE_NULL = "chunk"


@dataclass(frozen=True, slots=True)
class Standing:
    """A relation at a target's name."""

    table: Table
    kind: str
    temporary: bool
    comment: str | None
    primary_key: tuple[str, ...]
    fingerprint_indexed: bool
    required: tuple[str, ...]
    """Columns that an INSERT has to name."""
    estimated_rows: int

    @property
    def label(self) -> str:
        return f"{self.table.schema}.{self.table.table}"

    @property
    def target(self) -> Target:
        return self.table.schema, self.table.table

    @property
    def ours(self) -> bool:
        """Told by its COMMENT; its shape is another question."""
        return self.kind == "r" and not self.temporary and self.embeds is not None

    @property
    def embeds(self) -> str | None:
        """The source whose vectors it holds, as our COMMENT has it."""
        told = _COMMENT.match(self.comment or "")
        return None if told is None else told[1]

    @property
    def key(self) -> tuple[KeyColumn, ...]:
        """Its key columns: the primary key up to `chunk_no`."""
        columns = [self.table.column(part) for part in self.primary_key[:-1]]
        return tuple(KeyColumn(column.name, column.type) for column in columns if column is not None)


@dataclass(frozen=True, slots=True)
class Fit:
    """How an existing target takes a key."""

    changes: tuple[KeyChange, ...] = ()
    """What has to change in its key columns first."""
    differs: tuple[str, ...] = ()
    """Why it can't serve, in words for a person; then nothing else holds."""


def find(connection: Connection, target: Target) -> Standing | None:
    """None where the name is free."""
    params = {"schema": target[0], "table": target[1]}
    row = connection.execute(statement("target_table.find"), params).fetchone()
    if row is None:
        return None
    return Standing(
        catalog.describe(connection, row["oid"]),
        row["kind"],
        row["temporary"],
        row["comment"],
        tuple(row["primary_key"]),
        row["fingerprint_indexed"],
        tuple(row["required"]),
        row["estimated_rows"],
    )


def fit(standing: Standing, source: Source, table: Table, spec: Spec, vector_type: VectorType) -> Fit:
    """Compares a target with what this source, key and vector type need. `table` is the source's."""
    if standing.kind != "r":
        return Fit(differs=("it isn't a plain table",))
    differs = [*_key_differs(standing, source, table), *_columns_differ(standing, spec, vector_type)]
    changes = key_changes(standing.key, source.key)
    if differs or changes is None:
        return Fit(differs=tuple(differs))
    return Fit(changes)


def _key_differs(standing: Standing, source: Source, table: Table) -> Iterator[str]:
    wanted = ", ".join(f"{column.name} {column.type}" for column in source.key)
    if standing.primary_key[-1:] != ("chunk_no",):
        yield f"its primary key is ({', '.join(standing.primary_key)}), and not (…, chunk_no)"
    elif key_changes(standing.key, source.key) is None:
        have = ", ".join(f"{column.name} {column.type}" for column in standing.key)
        yield f"its key is ({have}), and that of {source.label} is ({wanted})"
    else:
        for mine, theirs in zip(standing.key, source.key, strict=True):
            stored, column = standing.table.column(mine.name), table.column(theirs.name)
            if stored is not None and column is not None and stored.collation != column.collation:
                yield f"its key column {mine.name} has another collation than {theirs.name} of {source.label}"


def _columns_differ(standing: Standing, spec: Spec, vector_type: VectorType) -> Iterator[str]:
    for expected in TARGET_COLUMNS:
        wanted = _PLAIN.get(expected, f"{vector_type.value}({spec.dimensions})")
        column = standing.table.column(expected)
        # the extension's types are qualified where its schema is off the path
        have = (
            None if column is None else column.type.rpartition(".")[2] if expected == "embedding" else column.type
        )
        if column is None:
            yield f"it has no column {expected}"
        elif have != wanted:
            yield f"its column {expected} is {have}, and {wanted} is needed"
        elif not column.not_null and expected != _MAY_BE_NULL:
            yield f"its column {expected} may be NULL"
    for column_name in standing.required:
        if column_name not in TARGET_COLUMNS and column_name not in standing.primary_key:
            yield f"its column {column_name} is NOT NULL and has no default, and is none of ours"


def require_owner(connection: Connection, standing: Standing, purpose: str) -> None:
    """Raises Refused with the grant."""
    catalog.require_owner(connection, standing.table, purpose)


def count(connection: Connection, standing: Standing) -> tuple[int, bool]:
    """Its vectors, and whether they were counted or estimated."""
    counted = sizes.count_up_to(connection, name(*standing.target), limit=COUNT_LIMIT_ROWS + 1)
    if counted <= COUNT_LIMIT_ROWS:
        return counted, True
    return max(counted, standing.estimated_rows), False


def filled(connection: Connection, target: Target) -> bool:
    """Whether it holds any vector."""
    query = statement("target_table.filled").format(target=sql.Identifier(*target))
    return bool(one(connection, query)["filled"])


def count_orphans(connection: Connection, standing: Standing, source: Source) -> int:
    """Vectors whose row is gone. Reads both tables."""
    pairs = zip(standing.key, source.key, strict=True)
    query = statement("target_table.count_orphans").format(
        target=sql.Identifier(*standing.target),
        source=sql.Identifier(source.schema, source.table),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("pgvector_sync_source.{} = pgvector_sync_target.{}").format(
                sql.Identifier(theirs.name), sql.Identifier(mine.name)
            )
            for mine, theirs in pairs
        ),
    )
    with reading(connection):
        return int(one(connection, query)["rows"])


def refusal(standing: Standing, differs: Sequence[str], *, hint: str) -> Refused:
    """For a target that doesn't fit."""
    return Refused(f"{standing.label} doesn't fit: {'; '.join(differs)}", hint=hint)


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing that makes, or may make, the target refuse our writes."""

    kind: str
    """`column`, `missing`, `type`, `identity`, `rule`, `grant`: certain. `unique`, `check`, `foreign key`,
    `exclusion`, `trigger`: they may pass."""
    name: str
    detail: str | None
    certain: bool
    """No write can succeed."""
    words: str
    """What it is, without the table's name; never a row's content."""
    advice: str
    """The statement that ends it, or what to look at."""


def demands(connection: Connection, pipeline: Pipeline) -> list[Demand]:
    """What pgvector-sync can't satisfy, the certain ones first; empty too where the table doesn't exist.

    One statement on the catalog, with no lock on the table, for `apply`, `doctor` and the schema watch.
    """
    params = {
        "schema": pipeline.target_schema,
        "table": pipeline.target_table,
        "key_columns": [column.name for column in pipeline.source.key],
        "own_columns": list(TARGET_COLUMNS),
        "vector_type": pipeline.options.vector_type.value,
        "dimensions": pipeline.spec.dimensions,
    }
    found = connection.execute(statement("target_table.demands"), params)
    return [_demand(pipeline, row["kind"], row["name"], row["detail"], row["certain"]) for row in found]


def _demand(pipeline: Pipeline, kind: str, name: str, detail: str | None, certain: bool) -> Demand:
    table = sql.Identifier(pipeline.target_schema, pipeline.target_table).as_string()
    column = sql.Identifier(name).as_string()
    wanted = f"{pipeline.options.vector_type.value}({pipeline.spec.dimensions})"
    again = f"pgvector-sync remove {pipeline.name}, then: pgvector-sync apply"
    words, advice = {
        "column": (
            f"column {name} is NOT NULL without a default",
            f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT …; or: … DROP NOT NULL;",
        ),
        "missing": (f"column {name} is missing", f"put it back, or: {again}"),
        "type": (f"column {name} is {detail}, and {wanted} is needed", again),
        "identity": (
            f"no unique index on exactly ({name})",
            f"ALTER TABLE {table} ADD PRIMARY KEY ({name});",
        ),
        "rule": (f"rule {name} rewrites the writes", f"DROP RULE {column} ON {table};"),
        "grant": (
            f"role {detail} lacks {name}",
            f"GRANT {name} ON {table} TO {sql.Identifier(detail or '').as_string()};",
        ),
        "unique": (f"unique index {name} may refuse rows", "see that equal values are allowed, or drop it"),
        "check": (f"check constraint {name} may refuse rows", "see that it holds for every vector, or drop it"),
        "foreign key": (
            f"foreign key {name} may refuse rows, and locks what it refers to",
            "drop it: vectors of deleted rows go by themselves",
        ),
        "exclusion": (f"exclusion constraint {name} may refuse rows", "see that it holds, or drop it"),
        "trigger": (
            f"trigger {name} may refuse or change what is written",
            "it runs with the worker's rights: its function should be ours, and never fail",
        ),
    }[kind]
    return Demand(kind, name, detail, certain, words, advice)


@dataclass(frozen=True, slots=True)
class StoredType:
    """Of a target's vectors."""

    type: str
    dimensions: int
    """-1 where the column has none."""


def vector_type(connection: Connection, oid: int) -> StoredType | None:
    """None where there is no column for them."""
    row = connection.execute(statement("target_table.vector_type"), {"oid": oid}).fetchone()
    return None if row is None else StoredType(**row)


@dataclass(frozen=True, slots=True)
class Index:
    schema: str
    name: str
    method: str
    """`hnsw`, `ivfflat`, `btree` and their like."""
    operator_class: str
    """Of its first column."""
    valid: bool
    building: bool


def indexes(connection: Connection, oid: int) -> list[Index]:
    return [Index(**row) for row in connection.execute(statement("target_table.indexes"), {"oid": oid})]
