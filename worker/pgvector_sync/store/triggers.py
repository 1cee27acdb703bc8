"""The triggers on a source. DDL takes no parameters, so all of it is composed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Source
from pgvector_sync.store.shape import key_json, same_keys

TOAST_CHUNK_ID_SINCE = 170000
ROW_TRIGGERS = ("insert", "update", "delete")
FUNCTIONS = ("capture", "sweep")
"""The functions of row triggers, and of TRUNCATE triggers."""
_CREATE = {
    "insert": "triggers.create_insert_trigger",
    "update": "triggers.create_update_trigger",
    "delete": "triggers.create_delete_trigger",
}
_TOAST_CHUNK_ID = sql.SQL("pg_catalog.pg_column_toast_chunk_id")
_OLD, _NEW = sql.SQL("old"), sql.SQL("new")

Target = tuple[str, str]
"""(schema, table)"""


@dataclass(frozen=True)
class Capture:
    """The functions and triggers of one source. Pure: composing and signing `statements` needs no connection."""

    source: Source
    owner: str
    """The owner of the source."""
    tracked: tuple[str, ...]
    """The columns whose changes are captured, in the order of the table."""
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
        from_source = part("triggers.from_partition" if self.partitioned else "triggers.from_source")
        return part("triggers.delete_from_target").format(
            **parts,
            from_source=from_source.format(source_name=_quoted(*self.home)),
            trust=part("triggers.trust").format(
                target_name=_quoted(*target), target_schema=sql.Literal(target[0])
            ),
            delete_row=part("triggers.delete_row").format(**parts),
        )

    def _readable(self, row: sql.Composable) -> sql.Composed:
        return sql.SQL(" AND ").join(
            part("triggers.key_readable").format(
                column=row + sql.SQL(".") + sql.Identifier(column.name),
                types=sql.Literal("{" + ",".join(same_keys(column.type)) + "}"),
            )
            for column in self.source.key
        )

    def changed(self) -> sql.Composed:
        """Composes the WHEN of the update trigger: the binary image of any tracked column differs.

        IS DISTINCT FROM would miss citext abc → ABC and numeric 1.0 → 1.00, and fail on json. From PostgreSQL 17
        on, an unchanged out-of-line value is recognized by its TOAST pointer, without reading it. All other
        columns are compared at once: each call adds 4 µs to a statement, for its preparation.
        """
        apart = self.toastable if self.server_version >= TOAST_CHUNK_ID_SINCE else frozenset()
        together = [name for name in self.tracked if name not in apart]
        conditions = [_image_differs(together)] if together else []
        for name in self.tracked:
            if name in apart:
                condition = (
                    "({toast}(old.{c}) IS NULL OR {toast}(old.{c}) IS DISTINCT FROM {toast}(new.{c})) AND {image}"
                )
                parts = {"toast": _TOAST_CHUNK_ID, "c": sql.Identifier(name), "image": _image_differs([name])}
                conditions.append(sql.SQL(condition).format(**parts))
        return sql.SQL(" OR ").join(sql.SQL("({})").format(condition) for condition in conditions)

    def _functions(self) -> list[sql.Composed]:
        old_row = sql.SQL(", ").join(sql.SQL("old.{}").format(sql.Identifier(c.name)) for c in self.source.key)
        new_row = sql.SQL(", ").join(sql.SQL("new.{}").format(sql.Identifier(c.name)) for c in self.source.key)
        return [
            statement("triggers.create_function").format(
                function=self.function,
                source_id=sql.Literal(self.source.id),
                new_readable=self._readable(_NEW),
                old_readable=self._readable(_OLD),
                new_key=key_json(self.source, _NEW),
                old_key=key_json(self.source, _OLD),
                key_changed=sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(old_row, new_row),
                delete=self._delete(),
            ),
            statement("triggers.revoke").format(function=self.function),
            statement("triggers.create_sweep_function").format(
                function=self.sweep_function, source_id=sql.Literal(self.source.id)
            ),
            statement("triggers.revoke").format(function=self.sweep_function),
            *self._grants(),
        ]

    def _grants(self) -> list[sql.Composed]:
        if not self.partitioned:
            return []
        owner = sql.Identifier(self.owner)
        return [statement("triggers.grant_to_owner").format(function=self.function, owner=owner)]

    def _triggers(self, partitions: tuple[Target, ...]) -> list[sql.Composed]:
        ddl = [
            statement(_CREATE[event]).format(source=self._relation, function=self.function, changed=self.changed())
            for event in ROW_TRIGGERS
        ]
        truncated = [self.home, *partitions]
        ddl += [
            statement("triggers.create_truncate_trigger").format(
                source=sql.Identifier(*relation), function=self.sweep_function
            )
            for relation in truncated
        ]
        if self.replicated:
            always = [(self.home, event) for event in ROW_TRIGGERS]
            always += [(relation, "truncate") for relation in truncated]
            ddl += [
                statement("triggers.enable_always").format(
                    source=sql.Identifier(*relation), trigger=_trigger(event)
                )
                for relation, event in always
            ]
        return ddl

    def statements(self) -> list[sql.Composed]:
        """Composes the DDL: functions first, then triggers, to lock the source as late as possible."""
        signed = sql.Literal(self.signature())
        return [
            *self._functions(),
            statement("triggers.sign").format(function=self.function, signature=signed),
            statement("triggers.sign").format(function=self.sweep_function, signature=signed),
            *self._triggers(self.partitions),
        ]

    def signature(self) -> str:
        """Returns a digest of the DDL, without its own comment and without partitions, which may change."""
        ddl = "\n".join(each.as_string() for each in [*self._functions(), *self._triggers(())])
        return "pgvector-sync " + hashlib.sha256(ddl.encode()).hexdigest()[:32]

    @property
    def home(self) -> Target:
        return self.source.schema, self.source.table

    @property
    def enabled(self) -> str:
        """The expected `pg_trigger.tgenabled`."""
        return "A" if self.replicated else "O"


def _image_differs(columns: Sequence[str]) -> sql.Composed:
    """Composes the condition that the binary image of a column differs.

    A function, since a dump would print the operator *<> without the casts that it needs to be restored.
    """
    old, new = (
        sql.SQL(", ").join(sql.SQL("{}.{}").format(row, sql.Identifier(name)) for name in columns)
        for row in (_OLD, _NEW)
    )
    return sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(old, new)


def _function_name(kind: str, source: Source) -> str:
    return f"{kind}_{source.id}"


def _trigger(event: str) -> sql.Identifier:
    return sql.Identifier(f"pgvector_sync_{event}")


def _quoted(*name: str) -> sql.Literal:
    """Returns a quoted name as a text literal, for a cast to regclass."""
    return sql.Literal(sql.Identifier(*name).as_string())


@dataclass(frozen=True, slots=True)
class Installed:
    """One of our triggers, as the catalog describes it."""

    schema: str
    table: str
    trigger: str
    enabled: str
    """`O` origin, `A` always, `R` replica, `D` disabled."""
    inherited: bool
    """Whether a partition has inherited it."""
    signature: str
    """The signature of its function."""
    watched: tuple[str, ...]
    """The columns that its condition reads, by their current names."""


def installed(connection: Connection, source_id: int) -> list[Installed]:
    """Returns our triggers of a source, on whatever table."""
    query = installed_query(sql.Literal(source_id))
    return [installed_of(row) for row in connection.execute(query)]


def installed_query(source_id: sql.Composable) -> sql.Composed:
    """Composes the query of `installed`, for the source with the id `source_id`."""
    return statement("triggers.installed").format(source_id=source_id)


def installed_of(row: Mapping[str, Any]) -> Installed:
    """Reads a row of `installed_query`."""
    return Installed(**{**row, "watched": tuple(row["watched"])})


def create(connection: Connection, capture: Capture) -> None:
    """Creates or replaces functions and triggers. Raises psycopg.errors.LockNotAvailable, after which to retry."""
    for each in capture.statements():
        connection.execute(each)


def revoke_from_others(connection: Connection, capture: Capture) -> None:
    """Revokes EXECUTE on our functions from all roles that don't need it."""
    needed = {(_function_name("capture", capture.source), capture.owner)} if capture.partitioned else set()
    names = [_function_name(kind, capture.source) for kind in FUNCTIONS]
    for row in connection.execute(statement("triggers.executors"), {"functions": names}).fetchall():
        if (row["function"], row["role"]) not in needed:
            function, grantee = sql.Identifier("pgvector_sync", row["function"]), sql.Identifier(row["role"])
            connection.execute(statement("triggers.revoke_from").format(function=function, grantee=grantee))


def drop(connection: Connection, source: Source) -> None:
    """Drops our functions and every trigger that calls one, even on tables renamed or detached meanwhile.

    DROP TRIGGER would require the owner of the table.
    """
    for kind in FUNCTIONS:
        name = sql.Identifier("pgvector_sync", _function_name(kind, source))
        connection.execute(statement("triggers.drop_function").format(function=name))


def touch(connection: Connection, relation: Target) -> None:
    """Locks a table against writers until the end of the transaction, which must be rolled back."""
    connection.execute(statement("triggers.touch_function"))
    connection.execute(statement("triggers.touch").format(relation=sql.Identifier(*relation)))


@dataclass(frozen=True, slots=True)
class OwnedByAnother:
    """A function or a target that the current role can't drop."""

    label: str
    owner: str
    target: bool
    """Whether it is the target."""
    role: str
    """The current role."""


def owned_by_another(connection: Connection, source: Source, target: Target | None) -> OwnedByAnother | None:
    """Returns the first of a source's functions and its target whose owner the current role can't act as."""
    schema, table = target or (None, None)
    params = {
        "functions": [_function_name(kind, source) for kind in FUNCTIONS],
        "schema": schema,
        "table": table,
    }
    row = connection.execute(statement("triggers.owned_by_another"), params).fetchone()
    return None if row is None else OwnedByAnother(**row)
