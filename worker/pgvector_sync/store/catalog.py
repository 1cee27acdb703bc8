"""User tables as the catalog describes them, and whether they can be a source."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import DictRow

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn
from pgvector_sync.store import leaf
from pgvector_sync.store.shape import KEY_TYPES, TARGET_COLUMNS, base_type, is_bytewise

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "c": "a composite type",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a user's table."""

    name: str
    type: str
    """As format_type prints it."""
    not_null: bool
    virtual: bool
    """Whether it is generated and not stored, so that a trigger can't read it."""
    can_toast: bool
    """Whether its values may be stored out of line."""
    deterministic: bool
    """False under a nondeterministic collation."""
    collation: tuple[str, str] | None
    """(schema, name), if it isn't the type's default."""
    enum: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A user's table as the catalog describes it."""

    schema: str
    table: str
    oid: int
    partitioned: bool
    columns: tuple[Column, ...]
    estimated_rows: int
    owner: str
    spill_limited: bool
    """Whether temporary files have a limit."""

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def toastable(self) -> frozenset[str]:
        """Columns whose values may be stored out of line."""
        return frozenset(column.name for column in self.columns if column.can_toast)

    @property
    def bytewise(self) -> frozenset[str]:
        """Columns whose values are equal only if their binary images are."""
        return frozenset(column.name for column in self.columns if is_bytewise(column.type, column.deterministic))


def find_table(connection: Connection, schema: str | None, table: str) -> Table:
    """Finds a source. Raises Refused if it is missing, not readable, or can't have our triggers."""
    label = f"{schema}.{table}" if schema else table
    params = {"oid": None, "schema": schema, "table": table}
    row = connection.execute(_table_query(), params).fetchone()
    if row is None:
        near = [r["label"] for r in connection.execute(statement("catalog.similar"), {"table": table})]
        raise Refused(f"there is no table {label}", hint=_near_hint(near))
    label = f"{row['schema']}.{row['table']}"
    _require_kind(row, label)
    _require_grants(row, label)
    return _table(connection, row)


def _table_query() -> sql.Composed:
    return statement("catalog.table").format(leaf_rows=leaf.rows())


def _near_hint(near: list[str]) -> str:
    """The hint for a missing table. `near` are similar names, quoted where SQL requires it."""
    if not near:
        return "check the name; the default schema is public"
    hint = f"did you mean {' or '.join(near)}?"
    quoted = next((label for label in near if '"' in label), None)
    # the two names may differ only in the quotes
    return f"{hint} A name with capitals must be quoted: source = '{quoted}'" if quoted else hint


def _require_kind(row: DictRow, label: str) -> None:
    if row["schema"] == "pgvector_sync" or row["table"].startswith("pgvector_sync_"):
        raise Refused(f"the name {label} is reserved for pgvector-sync", hint="rename the table")
    if row["kind"] in _KINDS:
        raise Refused(
            f"{label} is {_KINDS[row['kind']]}, not a table",
            hint="use the underlying table: changes are captured by triggers",
        )
    if row["temporary"]:
        raise Refused(f"{label} is a temporary table", hint="use a permanent table: workers run in other sessions")
    if row["inherits"]:
        raise Refused(
            f"{label} is part of an inheritance hierarchy, and not partitioned",
            hint="use declarative partitioning: row triggers don't apply to inheriting tables",
        )
    if row["kind"] == "p_child":
        raise Refused(
            f"{label} is a partition of {row['parent']}", hint=f'use the parent: source = "{row["parent"]}"'
        )


def _require_grants(row: DictRow, label: str) -> None:
    quoted, role = _quoted(row["schema"], row["table"]), _quoted(row["role"])
    if not row["may_use"]:
        raise Refused(
            f"role {row['role']} may not use the schema {row['schema']}",
            hint=f"GRANT USAGE ON SCHEMA {_quoted(row['schema'])} TO {role};",
        )
    if not row["may_select"]:
        raise Refused(f"role {row['role']} may not read {label}", hint=f"GRANT SELECT ON {quoted} TO {role};")
    if not row["may_trigger"]:
        raise Refused(
            f"role {row['role']} may not create triggers on {label}",
            hint=f"GRANT TRIGGER ON {quoted} TO {role};",
        )
    if row["filtered"]:
        raise Refused(
            f"row-level security hides rows of {label} from role {row['role']}",
            hint=f"ALTER ROLE {role} BYPASSRLS; or use a role that sees all rows, such as the owner: hidden rows "
            "would look deleted",
        )


def describe(connection: Connection, oid: int) -> Table:
    """Describes a table, without checking whether it can be a source."""
    params = {"oid": oid, "schema": None, "table": None}
    return _table(connection, one(connection, _table_query(), params))


def describe_named(connection: Connection, schema: str, table: str) -> Table:
    """Describes the table that has this name now, and must exist, without checking whether it can be a source."""
    params = {"oid": None, "schema": schema, "table": table}
    return _table(connection, one(connection, _table_query(), params))


def _table(connection: Connection, row: DictRow) -> Table:
    columns = tuple(
        Column(
            r["name"],
            r["type"],
            r["not_null"],
            r["virtual"],
            r["can_toast"],
            r["deterministic"],
            tuple(r["collation"]) if r["collation"] else None,
            r["enum"],
        )
        for r in connection.execute(statement("catalog.columns"), {"oid": row["oid"]})
    )
    return Table(
        row["schema"],
        row["table"],
        row["oid"],
        row["partitioned"],
        columns,
        row["estimated_rows"],
        row["owner"],
        row["spill_limited"],
    )


def require_owner(connection: Connection, table: Table, purpose: str) -> None:
    """Raises Refused unless the current role can act as the owner of the table and all its partitions."""
    other = connection.execute(statement("catalog.owned_by_another"), {"oid": table.oid}).fetchone()
    if other is not None:
        raise Refused(
            f"{purpose} requires the owner of {other['schema']}.{other['table']}, got role {other['role']}",
            hint=f"GRANT {_quoted(other['owner'])} TO {_quoted(other['role'])};",
        )


def find_key(connection: Connection, table: Table, wanted: tuple[str, ...] | None) -> tuple[KeyColumn, ...]:
    """Returns the key to use: `wanted` from the file, the primary key, or the only unique NOT NULL key.

    Raises Refused if there is none, or if it can't be used.
    """
    label = f"{table.schema}.{table.table}"
    keys = connection.execute(statement("catalog.keys"), {"oid": table.oid}).fetchall()
    if wanted is None:
        names = next((tuple(row["columns"]) for row in keys if row["primary"]), None)
        if names is None and len({tuple(sorted(row["columns"])) for row in keys}) == 1:
            names = tuple(keys[0]["columns"])
    else:
        names = next((wanted for row in keys if set(row["columns"]) == set(wanted)), None)
        for name in wanted:
            if table.column(name) is None:
                raise Refused(f"{label} has no column {name}", hint=columns_hint(table))
    if names is None:
        raise Refused(
            f"{label} has no " + (f"unique NOT NULL key ({', '.join(wanted)})" if wanted else "primary key"),
            hint=f"ALTER TABLE {_quoted(table.schema, table.table)} ADD PRIMARY KEY (…), or name a unique NOT NULL"
            ' key: key = ["column"]; it must not be deferrable, partial or over an expression',
        )
    return tuple(_key_column(table, name) for name in names)


def unique_keys(connection: Connection, table: Table) -> list[tuple[str, ...]]:
    """Returns the columns of every unique NOT NULL key, the primary key first. `find_key` may refuse one."""
    keys = connection.execute(statement("catalog.keys"), {"oid": table.oid}).fetchall()
    return list(dict.fromkeys(tuple(row["columns"]) for row in keys))


def _key_column(table: Table, name: str) -> KeyColumn:
    column = table.column(name)
    if column is None:  # pragma: no cover - the catalog named it
        raise AssertionError(name)
    another = 'name another unique NOT NULL key: key = ["column"]'
    if column.enum:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} is the enum {column.type}: renaming one of its "
            "values would change keys",
            hint=f"{another}; without one: ALTER TABLE {_quoted(table.schema, table.table)} "
            'ADD row_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE; and key = ["row_id"]',
        )
    if base_type(column.type) not in KEY_TYPES:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} has an unsupported type: {column.type}",
            hint=f"keys may be of type {', '.join(KEY_TYPES)}; {another}",
        )
    if not column.deterministic:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} has a nondeterministic collation",
            hint="name another unique NOT NULL key: under this collation, different strings would be the same key",
        )
    if name in TARGET_COLUMNS:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} has the name of a column of the target",
            hint='name another unique NOT NULL key: key = ["column"]',
        )
    return KeyColumn(name, column.type)


def _quoted(*name: str) -> str:
    """Quotes a name for a statement that users can paste."""
    return sql.Identifier(*name).as_string()


def columns_hint(table: Table) -> str:
    """A hint that lists the columns of a table."""
    return "its columns are " + ", ".join(column.name for column in table.columns)


def require_columns(table: Table, names: tuple[str, ...]) -> None:
    """Raises Refused if a column doesn't exist."""
    for name in names:
        if table.column(name) is None:
            raise Refused(f"{table.schema}.{table.table} has no column {name}", hint=columns_hint(table))


def partitions(connection: Connection, table: Table) -> tuple[tuple[str, str], ...]:
    """Returns (schema, table) of all partitions of a table, at every level."""
    if not table.partitioned:
        return ()
    rows = connection.execute(statement("catalog.partitions"), {"oid": table.oid})
    return tuple((row["schema"], row["table"]) for row in rows)


def find_relation(connection: Connection, schema: str, table: str) -> int | None:
    """Returns the OID of the relation with this name, of any kind; None if there is none."""
    row = connection.execute(statement("catalog.relation"), {"schema": schema, "table": table}).fetchone()
    return None if row is None else int(row["oid"])
