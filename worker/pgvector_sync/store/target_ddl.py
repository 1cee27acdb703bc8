"""Creates, adopts, alters and drops targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Source, Spec, VectorType
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange
from pgvector_sync.store.shape import base_type
from pgvector_sync.store.trust import trusts

Target = tuple[str, str]
"""(schema, table)"""


@dataclass(frozen=True, slots=True)
class MayCreate:
    """Whether the current role may create tables in a schema."""

    may_create: bool
    role: str


def may_create(connection: Connection, schema: str) -> MayCreate | None:
    """Returns whether the current role may create tables in a schema; None if there is no such schema."""
    row = connection.execute(statement("target_ddl.may_create"), {"schema": schema}).fetchone()
    return None if row is None else MayCreate(**row)


def create(
    connection: Connection,
    target: Target,
    source: Source,
    table: Table,
    spec: Spec,
    *,
    vector_type: VectorType,
    vector_schema: str,
    pipeline: str,
) -> None:
    """Creates a target with its index on fingerprints."""
    connection.execute(
        statement("target_ddl.create").format(
            target=sql.Identifier(*target),
            key_definitions=sql.SQL(",\n    ").join(
                sql.SQL("{} {} NOT NULL").format(sql.Identifier(column.name), _key_type(table, column))
                for column in source.key
            ),
            column_type=_column_type(vector_schema, vector_type, spec),
            key_columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in source.key),
        )
    )
    adopt(connection, target, source, pipeline=pipeline, indexed=False)


def adopt(connection: Connection, target: Target, source: Source, *, pipeline: str, indexed: bool) -> None:
    """Marks a target as ours with a COMMENT, and creates its index on fingerprints unless it is `indexed`."""
    relation = sql.Identifier(*target)
    if not indexed:
        connection.execute(statement("target_ddl.index_fingerprint").format(target=relation))
    comment = f"Embeddings of {source.label}, kept by pgvector-sync (pipeline {pipeline})"
    connection.execute(statement("target_ddl.comment").format(target=relation, comment=sql.Literal(comment)))


def lock(connection: Connection, target: Target) -> None:
    """Locks a target as DDL does. Raises psycopg.errors.LockNotAvailable."""
    connection.execute(statement("target_ddl.lock").format(target=sql.Identifier(*target)))


def retype(
    connection: Connection, target: Target, spec: Spec, *, vector_type: VectorType, vector_schema: str
) -> None:
    """Changes the dimensions or vector type of an empty target."""
    connection.execute(
        statement("target_ddl.retype").format(
            target=sql.Identifier(*target), column_type=_column_type(vector_schema, vector_type, spec)
        )
    )


def retype_keys(connection: Connection, target: Target, table: Table, changes: Sequence[KeyChange]) -> None:
    """Widens the types of key columns, with the collation of the source's columns. Doesn't rename them."""
    columns = [
        sql.SQL("ALTER COLUMN {} TYPE {}").format(
            sql.Identifier(change.before.name), _key_type(table, change.after)
        )
        for change in changes
        if change.retypes
    ]
    if columns:
        _require_no_referrers(connection, target)
        connection.execute(
            statement("target_ddl.retype_keys").format(
                target=sql.Identifier(*target), alterations=sql.SQL(", ").join(columns)
            )
        )


def _require_no_referrers(connection: Connection, target: Target) -> None:
    """Raises Refused for a foreign key of a table whose owner isn't trusted, and could have its code run."""
    lock(connection, target)
    query = statement("target_ddl.referrers").format(
        target_name=sql.Literal(sql.Identifier(*target).as_string()), trusts_owner=trusts("c.relowner")
    )
    if referrers := connection.execute(query).fetchall():
        words = "; ".join(f"{row['name']} of {row['table']}, which belongs to {row['owner']}" for row in referrers)
        raise Refused(
            f"foreign keys refer to {'.'.join(target)} and would be checked with this role's rights: {words}",
            hint="\n".join(
                f"ALTER TABLE {row['table']} DROP CONSTRAINT {sql.Identifier(row['name']).as_string()};"
                for row in referrers
            ),
        )


def rename_keys(connection: Connection, target: Target, changes: Sequence[KeyChange]) -> None:
    """Renames key columns to the names of the source's."""
    for change in changes:
        if change.renames:
            connection.execute(
                statement("target_ddl.rename_key").format(
                    target=sql.Identifier(*target),
                    old_name=sql.Identifier(change.before.name),
                    new_name=sql.Identifier(change.after.name),
                )
            )


def drop(connection: Connection, target: Target) -> None:
    """Drops a target, if it exists."""
    connection.execute(statement("target_ddl.drop").format(target=sql.Identifier(*target)))


def is_rewritten(changes: Sequence[KeyChange]) -> bool:
    """Whether Postgres rewrites the table and its indexes for these changes."""
    return any(change.retypes and base_type(change.before.type) in ("smallint", "integer") for change in changes)


def _column_type(vector_schema: str, vector_type: VectorType, spec: Spec) -> sql.Composed:
    return sql.SQL("{}({})").format(sql.Identifier(vector_schema, vector_type.value), sql.Literal(spec.dimensions))


def _key_type(table: Table, key: KeyColumn) -> sql.Composed:
    """Composes type and collation of a key column of the source."""
    column = table.column(key.name)
    collation = None if column is None else column.collation
    return sql.SQL("{}{}").format(
        sql.SQL(key.type),  # printed by format_type, for a type that we know
        sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL(""),
    )
