"""What a target table asks of a write besides what we bring: the user's own columns, constraints and triggers."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline


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
        "vector_type": pipeline.vector_type.value,
        "dimensions": pipeline.spec.dimensions,
    }
    found = connection.execute(statement("target.demands"), params)
    return [_demand(pipeline, row["kind"], row["name"], row["detail"], row["certain"]) for row in found]


def _demand(pipeline: Pipeline, kind: str, name: str, detail: str | None, certain: bool) -> Demand:
    table = sql.Identifier(pipeline.target_schema, pipeline.target_table).as_string()
    column = sql.Identifier(name).as_string()
    wanted = f"{pipeline.vector_type.value}({pipeline.spec.dimensions})"
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
