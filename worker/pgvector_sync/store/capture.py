"""Composes the functions and triggers of a source. DDL takes no parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import KeyColumn, Source
from pgvector_sync.store.shape import base_type, key_json, same_keys

TOAST_CHUNK_ID_SINCE = 170000
ROW_TRIGGERS = ("insert", "update", "delete")
REMOVE = "delete_vectors"
"""The trigger that deletes the vectors of all rows that a statement has deleted."""
FUNCTIONS = (*ROW_TRIGGERS, "remove", "sweep")
"""The functions of row triggers, one of each, of `REMOVE`, and of TRUNCATE triggers."""
_CREATE = {
    "insert": "capture.create_insert_trigger",
    "update": "capture.create_update_trigger",
    "delete": "capture.create_delete_trigger",
}
_TOAST_CHUNK_ID = sql.SQL("pg_catalog.pg_column_toast_chunk_id")
_TEXTS = frozenset({"text", "character varying", "character"})
"""Key types whose values may be too long for jsonb."""
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
    bytewise: frozenset[str]
    """Columns whose values are equal only if their binary images are."""
    targets: tuple[Target, ...]
    replicated: bool
    partitioned: bool
    partitions: tuple[Target, ...]
    server_version: int
    spill_limited: bool
    """Whether temporary files have a limit (`temp_file_limit`)."""

    def function(self, kind: str) -> sql.Identifier:
        """Returns the name of one of `FUNCTIONS`."""
        return sql.Identifier("pgvector_sync", function_name(kind, self.source))

    @property
    def _relation(self) -> sql.Identifier:
        return sql.Identifier(*self.home)

    @property
    def removes_by_statement(self) -> bool:
        """Whether one trigger per statement deletes vectors, which takes a bulk DELETE a third of the time.

        Not where some deletes wouldn't fire it. It also keeps the deleted rows, in a temporary file if there are
        many: with a limit on such files, it could make a statement of the application fail.
        """
        return bool(self.targets) and not (self.partitioned or self.replicated or self.spill_limited)

    def _matches(self, *, by_statement: bool) -> sql.Composed:
        """Composes the condition that `pgvector_sync_target` has the key of a deleted row."""
        row = sql.SQL("pgvector_sync_old" if by_statement else "old")
        conditions = []
        for number, column in enumerate(self.source.key):
            form = "= ANY (ARRAY[{row}.{c}])" if by_statement and number == 0 else "= {row}.{c}"
            name = sql.Identifier(column.name)
            conditions.append(sql.SQL("pgvector_sync_target.{c} " + form).format(row=row, c=name))
        return sql.SQL(" AND ").join(conditions)

    def _delete(self, *, by_statement: bool) -> sql.Composable:
        if not self.targets:
            return sql.SQL("NULL")
        return sql.SQL(";\n").join(self._delete_from(target, by_statement=by_statement) for target in self.targets)

    def _delete_from(self, target: Target, *, by_statement: bool) -> sql.Composed:
        columns = sql.SQL(", ").join(
            sql.SQL("pgvector_sync_row.{}").format(sql.Identifier(column.name)) for column in self.source.key
        )
        parts = {
            "target": sql.Identifier(*target),
            "matches": self._matches(by_statement=by_statement),
            "deleted": part("capture.deleted").format(columns=columns),
        }
        from_source = part("capture.from_partition" if self.partitioned else "capture.from_source")
        return part("capture.delete_from_target").format(
            **parts,
            and_deleted=sql.SQL(", {}").format(parts["deleted"]) if by_statement else sql.SQL(""),
            from_source=from_source.format(source_name=_quoted(*self.home)),
            trust=part("capture.trust").format(target_name=_quoted(*target), target_schema=sql.Literal(target[0])),
            delete=part("capture.delete_rows" if by_statement else "capture.delete_row").format(**parts),
        )

    def _typed(self, row: sql.Composable, column: KeyColumn) -> sql.Composed:
        return part("capture.key_typed").format(
            column=row + sql.SQL(".") + sql.Identifier(column.name),
            types=sql.Literal("{" + ",".join(same_keys(column.type)) + "}"),
        )

    def _readable(self, row: sql.Composable) -> sql.Composed:
        return sql.SQL(" AND ").join(
            part("capture.key_readable").format(
                typed=self._typed(row, column), column=row + sql.SQL(".") + sql.Identifier(column.name)
            )
            for column in self.source.key
        )

    def _fits(self, rows: Sequence[sql.Composable]) -> sql.Composable:
        texts = [column for column in self.source.key if base_type(column.type) in _TEXTS]
        if not texts:
            return sql.SQL("NULL")
        short = (
            part("capture.text_short").format(column=row + sql.SQL(".") + sql.Identifier(column.name))
            for row in rows
            for column in texts
        )
        return part("capture.key_fits").format(short=sql.SQL(" AND ").join(short))

    def changed(self) -> sql.Composed:
        """Composes the WHEN of the update trigger: the binary image of any tracked column differs.

        IS DISTINCT FROM would miss citext abc → ABC and numeric 1.0 → 1.00, and fail on json. For the types that
        it suits, it is cheaper, since each statement prepares the condition. From PostgreSQL 17 on, an unchanged
        out-of-line value is recognized by its TOAST pointer, without reading it. All other columns are compared at
        once.
        """
        apart = self.toastable if self.server_version >= TOAST_CHUNK_ID_SINCE else frozenset()
        together = [name for name in self.tracked if name not in apart | self.bytewise]
        conditions = []
        for name in self.tracked:
            differs = _differs(name) if name in self.bytewise else _image_differs([name])
            if name in apart:
                differs = sql.SQL("({toast}(old.{c}) = {toast}(new.{c})) IS NOT TRUE AND {differs}").format(
                    toast=_TOAST_CHUNK_ID, c=sql.Identifier(name), differs=differs
                )
            if name not in together:
                conditions.append(differs)
        if together:
            conditions.append(_image_differs(together))
        return sql.SQL(" OR ").join(sql.SQL("({})").format(condition) for condition in conditions)

    def _functions(self) -> list[sql.Composed]:
        return [
            *(self._row_function(event) for event in ROW_TRIGGERS),
            *self._remove_function(),
            statement("capture.create_sweep_function").format(
                function=self.function("sweep"), source_id=sql.Literal(self.source.id)
            ),
            *(statement("capture.revoke").format(function=self.function(kind)) for kind in self._kinds),
            *self._grants(),
        ]

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Those of `FUNCTIONS` that the source needs."""
        return tuple(kind for kind in FUNCTIONS if kind != "remove" or self.removes_by_statement)

    def _row_function(self, event: str) -> sql.Composed:
        row = _OLD if event == "delete" else _NEW
        more: sql.Composable = sql.SQL("NULL")
        source_id = sql.Literal(self.source.id)
        if event == "update":
            former, key = (
                sql.SQL(", ").join(each + sql.SQL(".") + sql.Identifier(c.name) for c in self.source.key)
                for each in (_OLD, _NEW)
            )
            more = part("capture.append_former_key").format(
                key_changed=sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(former, key),
                former_key=key_json(self.source, _OLD),
                source_id=source_id,
            )
        elif event == "delete" and not self.removes_by_statement:
            more = part("capture.delete_row_by_row").format(delete=self._delete(by_statement=False))
        return statement("capture.create_function").format(
            function=self.function(event),
            readable=self._readable(row),
            fits=self._fits((_OLD, _NEW) if event == "update" else (row,)),
            source_id=source_id,
            key=key_json(self.source, row),
            more=more,
        )

    def _remove_function(self) -> list[sql.Composed]:
        if not self.removes_by_statement:
            return []
        row = sql.SQL("pgvector_sync_old")
        return [
            statement("capture.create_remove_function").format(
                function=self.function("remove"),
                old_typed=sql.SQL(" AND ").join(self._typed(row, column) for column in self.source.key),
                delete=self._delete(by_statement=True),
            )
        ]

    def _grants(self) -> list[sql.Composed]:
        if not self.partitioned:
            return []
        owner = sql.Identifier(self.owner)
        return [
            statement("capture.grant_to_owner").format(function=self.function(event), owner=owner)
            for event in ROW_TRIGGERS
        ]

    def _triggers(self, partitions: tuple[Target, ...]) -> list[sql.Composed]:
        ddl = [
            statement(_CREATE[event]).format(
                source=self._relation, function=self.function(event), changed=self.changed()
            )
            for event in ROW_TRIGGERS
        ]
        if self.removes_by_statement:
            ddl.append(
                statement("capture.create_remove_trigger").format(
                    source=self._relation, function=self.function("remove")
                )
            )
        truncated = [self.home, *partitions]
        ddl += [
            statement("capture.create_truncate_trigger").format(
                source=sql.Identifier(*relation), function=self.function("sweep")
            )
            for relation in truncated
        ]
        if self.replicated:
            always = [(self.home, event) for event in ROW_TRIGGERS]
            always += [(relation, "truncate") for relation in truncated]
            ddl += [
                statement("capture.enable_always").format(
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
            *(
                statement("capture.sign").format(function=self.function(kind), signature=signed)
                for kind in self._kinds
            ),
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


def _differs(column: str) -> sql.Composed:
    return sql.SQL("old.{c} IS DISTINCT FROM new.{c}").format(c=sql.Identifier(column))


def _image_differs(columns: Sequence[str]) -> sql.Composed:
    """Composes the condition that the binary image of a column differs.

    A function, since a dump would print the operator *<> without the casts that it needs to be restored.
    """
    old, new = (
        sql.SQL(", ").join(sql.SQL("{}.{}").format(row, sql.Identifier(name)) for name in columns)
        for row in (_OLD, _NEW)
    )
    return sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(old, new)


def function_name(kind: str, source: Source) -> str:
    """Returns the name of one of `FUNCTIONS`, in our schema."""
    return f"{kind}_{source.id}"


def _trigger(event: str) -> sql.Identifier:
    return sql.Identifier(f"pgvector_sync_{event}")


def _quoted(*name: str) -> sql.Literal:
    """Returns a quoted name as a text literal, for a cast to regclass."""
    return sql.Literal(sql.Identifier(*name).as_string())
