"""The relation with a target's name: whether it fits, what may refuse writes to it, and what it contains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection, one, reading
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Pipeline, Source, Spec, Storage, VectorType
from pgvector_sync.store import catalog, sizes
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.index_ddl import contents, storage_in
from pgvector_sync.store.key_change import KeyChange, key_changes
from pgvector_sync.store.shape import TARGET_COLUMNS, name
from pgvector_sync.store.target_ddl import Target

COUNT_LIMIT_ROWS = 100_000
"""The number of vectors from which on they are estimated instead of counted."""
_COMMENT = re.compile(r"Embeddings of (.+), kept by pgvector-sync ")
"""Our COMMENT on every target."""
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
    """An existing relation with a target's name."""

    table: Table
    kind: str
    temporary: bool
    comment: str | None
    primary_key: tuple[str, ...]
    fingerprint_indexed: bool
    required: tuple[str, ...]
    """Columns that an INSERT must contain."""

    @property
    def label(self) -> str:
        return f"{self.table.schema}.{self.table.table}"

    @property
    def target(self) -> Target:
        return self.table.schema, self.table.table

    @property
    def ours(self) -> bool:
        """Whether it is a target of ours, according to its COMMENT. It may still not fit."""
        return self.kind == "r" and not self.temporary and self.embeds is not None

    @property
    def embeds(self) -> str | None:
        """The source whose vectors it contains, according to our COMMENT."""
        match = _COMMENT.match(self.comment or "")
        return None if match is None else match[1]

    @property
    def key(self) -> tuple[KeyColumn, ...]:
        """Its key columns: the primary key without `chunk_no`."""
        columns = [self.table.column(part) for part in self.primary_key[:-1]]
        return tuple(KeyColumn(column.name, column.type) for column in columns if column is not None)


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether an existing target fits a pipeline."""

    changes: tuple[KeyChange, ...] = ()
    """How its key columns have to be changed first."""
    differs: tuple[str, ...] = ()
    """Why it doesn't fit, for users. If there are any, `changes` is empty."""


def find(connection: Connection, target: Target) -> Standing | None:
    """Returns the relation with a target's name; None if there is none."""
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
    )


def fit(standing: Standing, source: Source, table: Table, spec: Spec, vector_type: VectorType) -> Fit:
    """Compares an existing target with what a pipeline needs.

    table: the source's table.
    """
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
        yield f"expected a primary key (…, chunk_no), got ({', '.join(standing.primary_key)})"
    elif key_changes(standing.key, source.key) is None:
        have = ", ".join(f"{column.name} {column.type}" for column in standing.key)
        yield f"expected the key of {source.label} ({wanted}), got ({have})"
    else:
        for mine, theirs in zip(standing.key, source.key, strict=True):
            stored, column = standing.table.column(mine.name), table.column(theirs.name)
            if stored is not None and column is not None and stored.collation != column.collation:
                yield f"its key column {mine.name} has another collation than {theirs.name} of {source.label}"


def _columns_differ(standing: Standing, spec: Spec, vector_type: VectorType) -> Iterator[str]:
    for expected in TARGET_COLUMNS:
        wanted = _PLAIN.get(expected, f"{vector_type.value}({spec.dimensions})")
        column = standing.table.column(expected)
        # the extension's types are qualified if its schema isn't on the search_path
        have = (
            None if column is None else column.type.rpartition(".")[2] if expected == "embedding" else column.type
        )
        if column is None:
            yield f"it has no column {expected}"
        elif have != wanted:
            yield f"expected column {expected} {wanted}, got {have}"
        elif not column.not_null and expected != _MAY_BE_NULL:
            yield f"its column {expected} may be NULL"
    for column_name in standing.required:
        if column_name not in TARGET_COLUMNS and column_name not in standing.primary_key:
            yield f"its column {column_name}, which isn't ours, is NOT NULL without a default"


def require_owner(connection: Connection, standing: Standing, purpose: str) -> None:
    """Raises Refused unless the current role can act as the target's owner. The hint is the GRANT."""
    catalog.require_owner(connection, standing.table, purpose)


def count(connection: Connection, standing: Standing) -> tuple[int, bool]:
    """Returns the number of vectors, and whether it is exact (True) or estimated."""
    counted = sizes.count_up_to(connection, name(*standing.target), limit=COUNT_LIMIT_ROWS + 1)
    if counted <= COUNT_LIMIT_ROWS:
        return counted, True
    return max(counted, standing.table.estimated_rows), False


def filled(connection: Connection, target: Target) -> bool:
    """Whether a target contains any vector."""
    query = statement("target_table.filled").format(target=sql.Identifier(*target))
    return bool(one(connection, query)["filled"])


def count_orphans(connection: Connection, standing: Standing, source: Source) -> int:
    """Counts the vectors whose row is deleted. Reads both tables."""
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
    """Returns the error for a target that doesn't fit."""
    return Refused(f"{standing.label} doesn't fit: {'; '.join(differs)}", hint=hint)


@dataclass(frozen=True, slots=True)
class Demand:
    """A requirement of the target that makes it refuse our writes, or may."""

    kind: str
    """`column`, `missing`, `type`, `identity`, `rule` and `grant` are certain. `unique`, `check`, `foreign key`,
    `exclusion` and `trigger` may be met."""
    name: str
    detail: str | None
    certain: bool
    """Whether no write can succeed."""
    words: str
    """A description without the table's name and without a row's content."""
    advice: str
    """The statement that fixes it, or what to check."""


def demands(connection: Connection, pipeline: Pipeline) -> list[Demand]:
    """Returns requirements that our writes can't or may not meet, the certain ones first; [] if there is no table.

    It reads only the catalog, without a lock on the table.
    """
    params = {
        "schema": pipeline.target_schema,
        "table": pipeline.target_table,
        "key_columns": [column.name for column in pipeline.source.key],
        "own_columns": list(TARGET_COLUMNS),
        "vector_type": pipeline.options.vector_type.value,
        "dimensions": pipeline.spec.dimensions,
    }
    rows = connection.execute(statement("target_table.demands"), params)
    return [_demand(pipeline, row["kind"], row["name"], row["detail"], row["certain"]) for row in rows]


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
        "missing": (f"column {name} is missing", f"restore it, or: {again}"),
        "type": (f"expected column {name} {wanted}, got {detail}", again),
        "identity": (
            f"no unique index on exactly ({name})",
            f"ALTER TABLE {table} ADD PRIMARY KEY ({name});",
        ),
        "rule": (f"rule {name} rewrites the writes", f"DROP RULE {column} ON {table};"),
        "grant": (
            f"role {detail} lacks {name}",
            f"GRANT {name} ON {table} TO {sql.Identifier(detail or '').as_string()};",
        ),
        "unique": (f"unique index {name} may refuse rows", "make sure that equal values are allowed, or drop it"),
        "check": (f"check constraint {name} may refuse rows", "make sure that every vector meets it, or drop it"),
        "foreign key": (
            f"foreign key {name} may refuse rows, and locks what it refers to",
            "drop it: vectors of deleted rows are removed automatically",
        ),
        "exclusion": (f"exclusion constraint {name} may refuse rows", "make sure all rows meet it, or drop it"),
        "trigger": (
            f"trigger {name} may refuse or change what is written",
            "it runs with the worker's rights: its function should have a trusted owner, and never fail",
        ),
    }[kind]
    return Demand(kind, name, detail, certain, words, advice)


@dataclass(frozen=True, slots=True)
class StoredType:
    """The type of a target's vectors."""

    type: str
    dimensions: int
    """-1 if the column has none."""


def vector_type(connection: Connection, oid: int) -> StoredType | None:
    """Returns the type of a target's vectors; None if there is no such column."""
    row = connection.execute(statement("target_table.vector_type"), {"oid": oid}).fetchone()
    return None if row is None else StoredType(**row)


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a target."""

    schema: str
    name: str
    method: str
    """`hnsw`, `ivfflat`, `btree` or another."""
    operator_class: str
    """The operator class of the first column."""
    over_expression: bool
    """Whether that is an expression, such as `binary_quantize(embedding)`."""
    storage: Storage | None
    """What it contains of the vectors; None: another column or expression, which our searches don't use."""
    partial: bool
    valid: bool
    building: bool


def indexes(connection: Connection, oid: int) -> list[Index]:
    """Returns the indexes of a target."""
    query = statement("target_table.indexes").format(contents=contents())
    return [Index(**row | {"storage": storage_in(row)}) for row in connection.execute(query, {"oid": oid})]
