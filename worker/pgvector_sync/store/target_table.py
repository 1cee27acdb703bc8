"""What stands at a target's name: whether it is a target of ours, whether it fits, and what would make it fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection, one, reading
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Source, Spec, VectorType
from pgvector_sync.store import catalog
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange, key_changes
from pgvector_sync.store.shape import TARGET_COLUMNS, base_type, name
from pgvector_sync.store.trust import trusts

Target = tuple[str, str]
"""(schema, table)"""
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
    query = statement("target_table.count_up_to").format(target=name(*standing.target))
    counted = int(one(connection, query, {"limit": COUNT_LIMIT_ROWS + 1})["rows"])
    if counted <= COUNT_LIMIT_ROWS:
        return counted, True
    return max(counted, standing.estimated_rows), False


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


def retype_keys(connection: Connection, target: Target, table: Table, changes: Sequence[KeyChange]) -> None:
    """Gives key columns their wider types, under the names they have, and the collation of the source's."""
    columns = []
    for change in changes:
        if change.retypes:
            column = table.column(change.after.name)
            collation = None if column is None else column.collation
            columns.append(
                sql.SQL("ALTER COLUMN {} TYPE {}{}").format(
                    sql.Identifier(change.before.name),
                    sql.SQL(change.after.type),  # format_type's own words, of a type we know
                    sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL(""),
                )
            )
    if columns:
        _require_no_referrers(connection, target)
        connection.execute(
            statement("target_table.retype_keys").format(
                target=sql.Identifier(*target), columns=sql.SQL(", ").join(columns)
            )
        )


def _require_no_referrers(connection: Connection, target: Target) -> None:
    """Raises Refused for a foreign key of a table that a role may fill with code of its own."""
    relation = sql.Identifier(*target)
    connection.execute(statement("target_table.lock").format(target=relation))
    query = statement("target_table.referrers").format(
        target_name=sql.Literal(relation.as_string()), trusts_owner=trusts("c.relowner")
    )
    if found := connection.execute(query).fetchall():
        words = "; ".join(f"{row['name']} of {row['table']}, which belongs to {row['owner']}" for row in found)
        raise Refused(
            f"foreign keys refer to {'.'.join(target)} and would be checked anew with this role's rights: {words}",
            hint="\n".join(
                f"ALTER TABLE {row['table']} DROP CONSTRAINT {sql.Identifier(row['name']).as_string()};"
                for row in found
            ),
        )


def rename_keys(connection: Connection, target: Target, changes: Sequence[KeyChange]) -> None:
    """Gives key columns the names of the source's."""
    for change in changes:
        if change.renames:
            connection.execute(
                statement("target_table.rename_key").format(
                    target=sql.Identifier(*target),
                    before=sql.Identifier(change.before.name),
                    after=sql.Identifier(change.after.name),
                )
            )


def refusal(standing: Standing, differs: Sequence[str], *, hint: str) -> Refused:
    """For a target that doesn't fit."""
    return Refused(f"{standing.label} doesn't fit: {'; '.join(differs)}", hint=hint)


def is_rewritten(changes: Sequence[KeyChange]) -> bool:
    """Whether Postgres copies the table for these changes, and builds its indexes anew."""
    return any(change.retypes and base_type(change.before.type) in ("smallint", "integer") for change in changes)
