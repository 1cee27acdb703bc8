"""The differences between the file and the database, and the changes of a pipeline that are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.errors import Refused
from pgvector_sync.model import OPTIONS, Effect, Method, Options, Pipeline, Provider, Source, Spec
from pgvector_sync.store import target_table
from pgvector_sync.store.catalog import find_relation
from pgvector_sync.store.expressions import same_meaning
from pgvector_sync.store.parsing import Expressions


@dataclass(frozen=True)
class Change:
    """One option that differs between file and database, with both values as text to show."""

    what: str
    before: str
    after: str

    @property
    def effect(self) -> Effect:
        return OPTIONS[self.what].effect


class StoredChange(Change):
    """A change that only has to be stored, since no vector depends on it."""

    @property
    def effect(self) -> Effect:
        return Effect.NONE


def differences(before: Options, after: Options) -> list[Change]:
    """List the options whose values differ."""
    same_vectors = Spec.of_documents(before).digest == Spec.of_documents(after).digest
    changes = []
    for name, option in OPTIONS.items():
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            kind = StoredChange if same_vectors and option.effect is Effect.EMBEDS_AGAIN else Change
            changes.append(kind(name, option.shown(old), option.shown(new)))
    return changes


def provider_differences(before: Provider, after: Provider) -> tuple[Change, ...]:
    """List the settings of a provider whose values differ."""
    pairs = [(each.name, getattr(before, each.name), getattr(after, each.name)) for each in fields(Provider)]
    return tuple(StoredChange(name, _setting(old), _setting(new)) for name, old, new in pairs if old != new)


def _setting(value: object) -> str:
    if value is None or value == {}:
        return "not set"
    return json.dumps(dict(value), ensure_ascii=False) if isinstance(value, Mapping) else str(value)


def changes_of(
    connection: Connection,
    existing: Pipeline,
    wanted: PipelineConfig,
    source: Source,
    expressions: Expressions,
    *,
    target_exists: bool,
) -> tuple[Change, ...]:
    """List what differs. Raises Refused for a change that isn't possible."""
    if existing.source.label != source.label:
        raise Refused(
            f"the source can't be changed: it is {existing.source.label}",
            hint=f"pgvector-sync remove {wanted.name} --keep-vectors, then apply with "
            f'target = "{existing.target_label}": vectors that still fit are taken over',
        )
    changes = differences(existing.options, wanted.options)
    changes += _resolved_differently(connection, existing, wanted.options, source, expressions)
    if target_exists and any(change.effect & Effect.RETYPES for change in changes):
        _require_empty_target(connection, existing, wanted)
    return tuple(changes)


def _require_empty_target(connection: Connection, existing: Pipeline, wanted: PipelineConfig) -> None:
    if target_table.filled(connection, (existing.target_schema, existing.target_table)):
        raise Refused(
            f"{existing.target_label} holds {existing.options.column_type} vectors: "
            f"changing it to {wanted.options.column_type} would discard them",
            hint="declare a second pipeline with the new dimensions or type, switch your queries to its target "
            f"once `status` shows it as fresh, then run `pgvector-sync remove {wanted.name}`",
        )
    _require_no_index_of(connection, existing, wanted)


def _require_no_index_of(connection: Connection, existing: Pipeline, wanted: PipelineConfig) -> None:
    """Raises Refused for indexes that fit only the old type.

    Postgres would refuse to convert the column, or, with an expression that has the old number of dimensions, each
    later write.
    """
    oid = find_relation(connection, existing.target_schema, existing.target_table)
    retyped = existing.options.vector_type is not wanted.options.vector_type
    unfit = [
        index
        for index in ([] if oid is None else target_table.indexes(connection, oid))
        if (index.storage is not None or index.method in set(Method)) and (retyped or index.over_expression)
    ]
    if unfit:
        names = ", ".join(index.name for index in unfit)
        raise Refused(
            f"{existing.target_label} has indexes over {existing.options.column_type}: {names}",
            hint="\n".join(
                f"DROP INDEX {sql.Identifier(index.schema, index.name).as_string()}; -- it is empty"
                for index in unfit
            ),
        )


def _resolved_differently(
    connection: Connection, existing: Pipeline, wanted: Options, source: Source, expressions: Expressions
) -> list[Change]:
    """Find expressions spelled as before that now resolve differently, such as after a change of search_path."""
    changes = []
    stored = existing.options
    if stored.text == wanted.text and not same_meaning(connection, source, existing.text_sql, expressions.text):
        changes.append(Change("text", existing.text_sql, expressions.text))
    before, after = existing.where_sql, expressions.where
    same = before is None or after is None or same_meaning(connection, source, before, after)
    if stored.where == wanted.where and not same:
        changes.append(Change("where", before or "", after or ""))
    return changes
