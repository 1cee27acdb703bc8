"""Capture: the triggers on a source, and the target they may delete from.

One set of triggers a source, however many pipelines read it. A waiting CREATE TRIGGER blocks every writer behind
it, so whoever calls `install` does it in a transaction with a short lock_timeout, and tries again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Pipeline, Source, Spec, State, VectorType
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.shape import key_json, same_keys
from pgvector_sync.store.watch import Facts, installed

TOAST_CHUNK_ID_SINCE = 170000
ROW_TRIGGERS = ("insert", "update", "delete")
FUNCTIONS = ("capture", "sweep")
"""Of row triggers, and of those on TRUNCATE."""
_TOAST_CHUNK_ID = sql.SQL("pg_catalog.pg_column_toast_chunk_id")
_OLD, _NEW = sql.SQL("old"), sql.SQL("new")

Target = tuple[str, str]
"""(schema, table)"""


@dataclass(frozen=True)
class Capture:
    """What has to be installed on one source. Pure: `statements` can be shown, and signed, without running it."""

    source: Source
    owner: str
    """Of the source."""
    tracked: tuple[str, ...]
    """In the order of the table."""
    toastable: frozenset[str]
    """Columns whose values may be stored out of line."""
    targets: tuple[Target, ...]
    replicated: bool
    partitioned: bool
    partitions: tuple[Target, ...]
    server_version: int

    @property
    def function(self) -> sql.Identifier:
        return sql.Identifier("pgvector_sync", _function_name("capture", self.source))

    @property
    def sweep_function(self) -> sql.Identifier:
        return sql.Identifier("pgvector_sync", _function_name("sweep", self.source))

    @property
    def _relation(self) -> sql.Identifier:
        return sql.Identifier(*self.home)

    def _matches_old(self, qualifier: sql.Composable) -> sql.Composed:
        return sql.SQL(" AND ").join(
            sql.SQL("{}.{} = old.{}").format(qualifier, sql.Identifier(c.name), sql.Identifier(c.name))
            for c in self.source.key
        )

    def _delete(self) -> sql.Composable:
        if not self.targets:
            return sql.SQL("NULL")
        return sql.SQL(";\n").join(self._delete_from(target) for target in self.targets)

    def _delete_from(self, target: Target) -> sql.Composed:
        parts: dict[str, sql.Composable] = {
            "target": sql.Identifier(*target),
            "target_matches_old": self._matches_old(sql.SQL("pgvector_sync_target")),
        }
        return statement("capture.delete_from_target").format(
            **parts,
            from_source=statement(f"capture.from_{'partition' if self.partitioned else 'source'}").format(
                source=_quoted(*self.home)
            ),
            trust=statement("capture.trust").format(
                target_name=_quoted(*target), target_schema=sql.Literal(target[0])
            ),
            delete_row=statement("capture.delete_row").format(**parts),
        )

    def _readable(self, row: sql.Composable) -> sql.Composed:
        return sql.SQL(" AND ").join(
            statement("capture.key_readable").format(
                column=row + sql.SQL(".") + sql.Identifier(column.name),
                types=sql.Literal("{" + ",".join(same_keys(column.type)) + "}"),
            )
            for column in self.source.key
        )

    def changed(self) -> sql.Composed:
        """The WHEN of the update trigger: any tracked column's binary image differs.

        Not IS DISTINCT FROM: it misses citext abc → ABC and numeric 1.0 → 1.00, and fails on json. From
        PostgreSQL 17 on an unchanged out-of-line value is recognised by its TOAST pointer, without reading it.
        """
        conditions = []
        for name in self.tracked:
            parts = {"c": sql.Identifier(name)}
            # By its name: a dump prints the operator *<> without the casts that it needs, and can't restore it.
            image = sql.SQL("pg_catalog.record_image_ne(ROW(old.{c}), ROW(new.{c}))").format(**parts)
            if name in self.toastable and self.server_version >= TOAST_CHUNK_ID_SINCE:
                image = sql.SQL(
                    "({toast}(old.{c}) IS NULL OR {toast}(old.{c}) IS DISTINCT FROM {toast}(new.{c})) AND {image}"
                ).format(image=image, toast=_TOAST_CHUNK_ID, **parts)
            conditions.append(sql.SQL("({})").format(image))
        return sql.SQL(" OR ").join(conditions)

    def _functions(self) -> list[sql.Composed]:
        old_row = sql.SQL(", ").join(sql.SQL("old.{}").format(sql.Identifier(c.name)) for c in self.source.key)
        new_row = sql.SQL(", ").join(sql.SQL("new.{}").format(sql.Identifier(c.name)) for c in self.source.key)
        return [
            statement("capture.create_function").format(
                function=self.function,
                source_id=sql.Literal(self.source.id),
                new_readable=self._readable(_NEW),
                old_readable=self._readable(_OLD),
                new_key=key_json(self.source, _NEW),
                old_key=key_json(self.source, _OLD),
                key_changed=sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(old_row, new_row),
                delete=self._delete(),
            ),
            statement("capture.revoke").format(function=self.function),
            statement("capture.create_sweep_function").format(
                function=self.sweep_function, source_id=sql.Literal(self.source.id)
            ),
            statement("capture.revoke").format(function=self.sweep_function),
            *self._grants(),
        ]

    def _grants(self) -> list[sql.Composed]:
        if not self.partitioned:
            return []
        owner = sql.Identifier(self.owner)
        return [statement("capture.grant_to_owner").format(function=self.function, owner=owner)]

    def _triggers(self, partitions: tuple[Target, ...]) -> list[sql.Composed]:
        made = [
            statement(f"capture.create_{event}_trigger").format(
                source=self._relation, function=self.function, changed=self.changed()
            )
            for event in ROW_TRIGGERS
        ]
        truncated = [self.home, *partitions]
        made += [
            statement("capture.create_truncate_trigger").format(
                source=sql.Identifier(*relation), function=self.sweep_function
            )
            for relation in truncated
        ]
        if self.replicated:
            always = [(self.home, event) for event in ROW_TRIGGERS]
            always += [(relation, "truncate") for relation in truncated]
            made += [
                statement("capture.enable_always").format(
                    source=sql.Identifier(*relation), trigger=_trigger(event)
                )
                for relation, event in always
            ]
        return made

    def statements(self) -> list[sql.Composed]:
        """Functions first, then triggers: the lock on the source is taken as late as possible."""
        signed = sql.Literal(self.signature())
        return [
            *self._functions(),
            statement("capture.sign").format(function=self.function, signature=signed),
            statement("capture.sign").format(function=self.sweep_function, signature=signed),
            *self._triggers(self.partitions),
        ]

    def signature(self) -> str:
        """A digest of all the DDL but its own comment; partitions come and go without changing it."""
        ddl = "\n".join(part.as_string() for part in [*self._functions(), *self._triggers(())])
        return "pgvector-sync " + hashlib.sha256(ddl.encode()).hexdigest()[:32]

    @property
    def home(self) -> Target:
        return self.source.schema, self.source.table

    @property
    def enabled(self) -> str:
        """`pg_trigger.tgenabled` as it should be."""
        return "A" if self.replicated else "O"


def _function_name(kind: str, source: Source) -> str:
    return f"{kind}_{source.id}"


def _trigger(event: str) -> sql.Identifier:
    return sql.Identifier(f"pgvector_sync_{event}")


def _quoted(*name: str) -> sql.Literal:
    """A quoted name as a text literal, for functions that take one."""
    return sql.Literal(sql.Identifier(*name).as_string())


def partitions(connection: Connection, table: Table) -> tuple[Target, ...]:
    """The partitions below a table, at every level."""
    if not table.partitioned:
        return ()
    rows = connection.execute(statement("catalog.partitions"), {"oid": table.oid})
    return tuple((row["schema"], row["table"]) for row in rows)


def of_stored(facts: Sequence[Facts], server_version: int) -> Capture | None:
    """What should be installed on the source of these pipelines, which are all that read it.

    None where there is no such table, or every pipeline is being removed.
    """
    living = [pipeline for pipeline in facts if pipeline.state is not State.REMOVING]
    if not living or living[0].table is None:
        return None
    table = living[0].table
    read = {name for pipeline in living for name in pipeline.read_columns}
    return Capture(
        source=living[0].source,
        owner=table.owner,
        tracked=tuple(name for name in table.types if name in read),
        toastable=table.toastable,
        targets=tuple(sorted(pipeline.target for pipeline in living)),
        replicated=living[0].replicated,
        partitioned=table.kind == "p",
        partitions=table.partitions,
        server_version=server_version,
    )


def install(connection: Connection, capture: Capture) -> None:
    """Makes functions and triggers what `capture` says. Raises psycopg.errors.LockNotAvailable: try again."""
    places = {capture.home, *capture.partitions}
    if any((t.schema, t.table) not in places for t in installed(connection, capture.source.id)):
        # The table that had the source's name before goes on as any other; DROP TRIGGER would need its owner.
        uninstall(connection, capture.source)
    for part in capture.statements():
        connection.execute(part)
    _revoke_from_others(connection, capture)


def _revoke_from_others(connection: Connection, capture: Capture) -> None:
    """Whatever was granted before, only the roles that need it may execute our functions."""
    needed = {(_function_name("capture", capture.source), capture.owner)} if capture.partitioned else set()
    names = [_function_name(kind, capture.source) for kind in FUNCTIONS]
    for row in connection.execute(statement("capture.executors"), {"functions": names}).fetchall():
        if (row["function"], row["role"]) not in needed:
            function, role = sql.Identifier("pgvector_sync", row["function"]), sql.Identifier(row["role"])
            connection.execute(statement("capture.revoke_from").format(function=function, role=role))


def touch(connection: Connection, relation: Target) -> None:
    """Locks a table against its writers until the transaction, which must not commit, ends."""
    connection.execute(statement("capture.touch_function"))
    connection.execute(statement("capture.touch").format(relation=sql.Identifier(*relation)))


def require_owner(connection: Connection, pipeline: Pipeline, *, of_target: bool) -> None:
    """Raises Refused where this role may not drop the pipeline's functions or, `of_target`, its target."""
    row = connection.execute(
        statement("capture.of_another"),
        {
            "functions": [_function_name(kind, pipeline.source) for kind in FUNCTIONS],
            "schema": pipeline.target_schema,
            "table": pipeline.target_table if of_target else None,
        },
    ).fetchone()
    if row is None:
        return
    owner, role = (sql.Identifier(row[who]).as_string() for who in ("owner", "role"))
    raise Refused(
        f"{row['label']} belongs to role {row['owner']}, and role {row['role']} can't drop it",
        hint=f"pgvector-sync remove {pipeline.name} --keep-vectors leaves the table"
        if row["target"]
        else f"run it as {row['owner']}; or GRANT {owner} TO {role};",
    )


def uninstall(connection: Connection, source: Source) -> None:
    """Drops our functions, and with them every trigger that calls one: on the source, on its partitions, on what
    was renamed or detached meanwhile. DROP TRIGGER would need the table's owner.
    """
    for kind in FUNCTIONS:
        name = sql.Identifier("pgvector_sync", _function_name(kind, source))
        connection.execute(statement("capture.drop_function").format(function=name))


def create_target(
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
    """The side table and its index on fingerprints."""
    relation = sql.Identifier(*target)
    connection.execute(
        statement("capture.create_target").format(
            target=relation,
            key_definitions=sql.SQL(",\n    ").join(_definition(table, column) for column in source.key),
            column_type=sql.SQL("{}({})").format(
                sql.Identifier(vector_schema, vector_type.value), sql.Literal(spec.dimensions)
            ),
            key_columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in source.key),
        )
    )
    adopt_target(connection, target, source, pipeline=pipeline, indexed=False)


def adopt_target(connection: Connection, target: Target, source: Source, *, pipeline: str, indexed: bool) -> None:
    """Says whose it is, and gives it its index on fingerprints unless it is `indexed`."""
    relation = sql.Identifier(*target)
    if not indexed:
        connection.execute(statement("capture.index_fingerprint").format(target=relation))
    comment = f"Embeddings of {source.label}, kept by pgvector-sync (pipeline {pipeline})"
    connection.execute(statement("capture.comment_target").format(target=relation, comment=sql.Literal(comment)))


def _definition(table: Table, key: KeyColumn) -> sql.Composed:
    column = table.column(key.name)
    collation = column.collation if column is not None else None
    return sql.SQL("{} {}{} NOT NULL").format(
        sql.Identifier(key.name),
        sql.SQL(key.type),  # format_type's own words, of a type we know
        sql.SQL(" COLLATE {}").format(sql.Identifier(*collation)) if collation else sql.SQL(""),
    )


def drop_target(connection: Connection, target: Target) -> None:
    connection.execute(statement("capture.drop_target").format(target=sql.Identifier(*target)))
