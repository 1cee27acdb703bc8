"""What the catalog says about a user's table, and whether it can be a source."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import DictRow

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn
from pgvector_sync.store.shape import KEY_TYPES, TARGET_COLUMNS, base_type

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
    name: str
    type: str
    """As format_type prints it."""
    not_null: bool
    virtual: bool
    """A generated column that is not stored; a trigger can't see it."""
    can_toast: bool
    deterministic: bool
    """False under a nondeterministic collation."""
    collation: tuple[str, str] | None
    """(schema, name) where it isn't the type's default."""
    enum: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A user's table as the catalog has it."""

    schema: str
    table: str
    oid: int
    partitioned: bool
    columns: tuple[Column, ...]
    estimated_rows: int
    owner: str

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


def find_table(connection: Connection, schema: str | None, table: str) -> Table:
    """The source. Raises Refused for one that is missing, unreadable or of a kind that triggers don't serve."""
    label = f"{schema}.{table}" if schema else table
    row = connection.execute(
        statement("catalog.table"), {"oid": None, "schema": schema, "table": table}
    ).fetchone()
    if row is None:
        near = [r["label"] for r in connection.execute(statement("catalog.similar"), {"table": table})]
        raise Refused(f"there is no table {label}", hint=_near_hint(near))
    label = f"{row['schema']}.{row['table']}"
    _require_kind(row, label)
    _require_grants(row, label)
    return _table(connection, row)


def _near_hint(near: list[str]) -> str:
    """`near` are names as SQL writes them."""
    if not near:
        return "check the name; public is the default schema"
    hint = f"did you mean {' or '.join(near)}?"
    quoted = next((label for label in near if '"' in label), None)
    # the name that was typed looks the same: what differs are the quotes
    return f"{hint} A name with capitals is written in quotes: source = '{quoted}'" if quoted else hint


def _require_kind(row: DictRow, label: str) -> None:
    if row["schema"] == "pgvector_sync" or row["table"].startswith("pgvector_sync_"):
        raise Refused(f"{label} has a name that pgvector-sync uses itself", hint="rename the table")
    if row["kind"] in _KINDS:
        raise Refused(
            f"{label} is {_KINDS[row['kind']]}",
            hint="name the table behind it: changes are captured by its triggers",
        )
    if row["temporary"]:
        raise Refused(f"{label} is a temporary table", hint="a worker in another session can't see it")
    if row["inherits"]:
        raise Refused(
            f"{label} inherits, or is inherited from, without being partitioned",
            hint="row triggers don't reach the children; use declarative partitioning",
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
            hint=f"ALTER ROLE {role} BYPASSRLS; or use another role that sees all rows, such as the owner: hidden "
            "rows would look deleted",
        )


def describe(connection: Connection, oid: int) -> Table:
    """A table as it is, whether or not it could be a source today."""
    return _table(
        connection, one(connection, statement("catalog.table"), {"oid": oid, "schema": None, "table": None})
    )


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
    )


def require_owner(connection: Connection, table: Table, purpose: str) -> None:
    """Raises Refused unless our role owns the table and its partitions, itself or as a member of their owners."""
    other = connection.execute(statement("catalog.owned_by_another"), {"oid": table.oid}).fetchone()
    if other is not None:
        raise Refused(
            f"{purpose} needs the owner of {other['schema']}.{other['table']}, which role {other['role']} is not",
            hint=f"GRANT {_quoted(other['owner'])} TO {_quoted(other['role'])};",
        )


def find_key(connection: Connection, table: Table, wanted: tuple[str, ...] | None) -> tuple[KeyColumn, ...]:
    """The primary key, or the unique NOT NULL key named in the config. Raises Refused with the reason."""
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
            ' key: key = ["column"]; one that is deferrable, partial or over an expression does not serve',
        )
    return tuple(_key_column(table, name) for name in names)


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
            f"key column {name} of {table.schema}.{table.table} is {column.type}, which has no one canonical form",
            hint=f"keys may be {', '.join(KEY_TYPES)}; {another}",
        )
    if not column.deterministic:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} has a nondeterministic collation",
            hint="different spellings would be one key; name another unique NOT NULL key",
        )
    if name in TARGET_COLUMNS:
        raise Refused(
            f"key column {name} of {table.schema}.{table.table} is named like a column of the target",
            hint='name another unique NOT NULL key: key = ["column"]',
        )
    return KeyColumn(name, column.type)


def _quoted(*name: str) -> str:
    """For a statement that a user can paste."""
    return sql.Identifier(*name).as_string()


def columns_hint(table: Table) -> str:
    return "its columns are " + ", ".join(column.name for column in table.columns)


def require_columns(table: Table, names: tuple[str, ...]) -> None:
    """Raises Refused for a column that isn't there."""
    for name in names:
        if table.column(name) is None:
            raise Refused(f"{table.schema}.{table.table} has no column {name}", hint=columns_hint(table))


def partitions(connection: Connection, table: Table) -> tuple[tuple[str, str], ...]:
    """(schema, table) of the partitions below a table, at every level."""
    if not table.partitioned:
        return ()
    rows = connection.execute(statement("catalog.partitions"), {"oid": table.oid})
    return tuple((row["schema"], row["table"]) for row in rows)


def find_relation(connection: Connection, schema: str, table: str) -> int | None:
    """The OID of what has this name, whatever it is; None where the name is free."""
    row = connection.execute(statement("catalog.relation"), {"schema": schema, "table": table}).fetchone()
    return None if row is None else int(row["oid"])
