"""What Postgres' catalog says of a user's table and expressions: the ground of most of what `apply` refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Need, Source
from pgvector_sync.store import expressions
from pgvector_sync.store.expressions import Paths
from pgvector_sync.store.shape import KEY_TYPES, TARGET_COLUMNS, base_type

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "c": "a composite type",
}
_SYSTEM_ATTRIBUTE = re.compile(r"\{VAR :varno \d+ :varattno -\d")
_WHOLE_ROW = re.compile(r"\{VAR :varno \d+ :varattno 0 ")
_FUNCTION = re.compile(r":(?:funcid|opfuncid) (\d+)")


_EXPRESSION_STATES = ("0A", "22", "42")
"""SQLSTATE classes of an expression that is wrong: not supported, data exception, syntax or access rule."""


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
                raise Refused(f"{label} has no column {name}", hint=_columns_hint(table))
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


def _columns_hint(table: Table) -> str:
    return "its columns are " + ", ".join(column.name for column in table.columns)


def require_columns(table: Table, names: tuple[str, ...]) -> None:
    """Raises Refused for a column that isn't there."""
    for name in names:
        if table.column(name) is None:
            raise Refused(f"{table.schema}.{table.table} has no column {name}", hint=_columns_hint(table))


@dataclass(frozen=True, slots=True)
class Expressions:
    """Text and `where` as Postgres has understood them."""

    columns: tuple[str, ...]
    """What they read."""
    text: str
    where: str | None
    """With every name qualified, so that they mean the same whatever the search_path is."""
    depends: tuple[Need, ...]
    """What they need besides the row and what every Postgres has."""
    loose: tuple[str, ...]
    """Functions among it that look names up when they run."""


def understand(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None
) -> Expressions:
    """Has Postgres parse text and `where` as a view that is rolled back, under the search_path that an application
    has by default: what `=` is for a citext depends on it.

    Raises Refused for an expression that doesn't parse, isn't boolean (where), reads another table, is volatile
    or depends on the time: a change of those would go unnoticed.
    """
    try:
        with connection.transaction(force_rollback=True):
            paths = expressions.begin(connection)
            columns, whole = _probe(connection, source, table, text_sql, where_sql, paths)
            depends = (*expressions.depends(connection), *([Need("row", "", "", "")] if whole else []))
            loose = expressions.require_same_bodies(connection, paths)
            text = expressions.pin(connection, source, text_sql, paths)
            where = None if where_sql is None else expressions.pin(connection, source, where_sql, paths)
            return Expressions(tuple(columns), text, where, depends, loose)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _EXPRESSION_STATES:
            raise
        # the message names columns and functions of the user's expression; DETAIL, which may quote rows, stays out
        primary = error.diag.message_primary or "it does not parse"
        raise Refused(
            f"the expression is not valid for {source.label}: {primary}", hint=_columns_hint(table)
        ) from None


def _probe(
    connection: Connection, source: Source, table: Table, text_sql: str, where_sql: str | None, paths: Paths
) -> tuple[list[str], bool]:
    """The columns that are read, and whether a whole row is, with columns that come later."""
    view = sql.Identifier("pgvector_sync", expressions.PROBE)
    expressions.create_view(
        connection,
        sql.SQL(
            "CREATE VIEW {view} AS SELECT ({text}\n)::pg_catalog.text AS text FROM {source} "
            "WHERE ({text}\n) IS NOT NULL AND ({where}\n)"  # in WHERE, aggregates and sets are refused
        ).format(
            view=view,
            text=sql.SQL(text_sql),
            where=sql.SQL(where_sql or "true"),
            source=sql.Identifier(source.schema, source.table),
        ),
        paths.default,
        paths.ours,
    )
    found = one(
        connection,
        statement("catalog.probe"),
        {"source_oid": table.oid, "view": f"pgvector_sync.{expressions.PROBE}"},
    )
    if found["others"]:
        raise Refused(
            f"the expression reads {', '.join(found['others'])}, whose changes no trigger on {source.label} sees",
            hint="keep what the text needs in the row itself (a column, or a trigger of your own that fills one)",
        )
    tree = found["tree"]
    if found["own_reads"] > 1:
        raise Refused(
            f"the expression reads other rows of {source.label}",
            hint="a change of those would not reach this row; keep what the text needs in the row itself",
        )
    if _SYSTEM_ATTRIBUTE.search(tree):
        raise Refused("the expression reads a system column", hint="use the table's own columns")
    functions = sorted({int(oid) for oid in _FUNCTION.findall(tree)})
    volatile = [r["name"] for r in connection.execute(statement("catalog.volatile"), {"oids": functions})]
    if "{SQLVALUEFUNCTION" in tree:
        volatile.append("current_date or its like")
    if volatile:
        raise Refused(
            f"the expression depends on more than the row: {', '.join(volatile)}",
            hint="its result would change without the row changing, and the vector would be stale unnoticed",
        )
    columns = set(found["columns"])
    whole = _WHOLE_ROW.search(tree) is not None
    if whole or any(c.virtual and c.name in columns for c in table.columns):
        columns = {column.name for column in table.columns if not column.virtual}
    return [column.name for column in table.columns if column.name in columns], whole
