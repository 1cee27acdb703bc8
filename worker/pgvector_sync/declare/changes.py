"""What differs between a pipeline of the file and the one that is stored, and what can't be changed."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.database import Connection
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.errors import Refused
from pgvector_sync.model import OPTIONS, Effect, Options, Pipeline, Source
from pgvector_sync.store import target_table
from pgvector_sync.store.expressions import same_meaning
from pgvector_sync.store.probe import Expressions


@dataclass(frozen=True)
class Change:
    """One option that differs between file and database, in words for a person."""

    what: str
    before: str
    after: str

    @property
    def effect(self) -> Effect:
        return OPTIONS[self.what].effect


def differences(before: Options, after: Options) -> list[Change]:
    """Every option whose value has changed."""
    pairs = [(option, getattr(before, name), getattr(after, name)) for name, option in OPTIONS.items()]
    return [Change(option.name, option.shown(old), option.shown(new)) for option, old, new in pairs if old != new]


def changes_of(
    connection: Connection,
    existing: Pipeline,
    wanted: PipelineConfig,
    source: Source,
    meant: Expressions,
    *,
    target_exists: bool,
) -> tuple[Change, ...]:
    """The differences. Raises Refused for what can't be changed."""
    if existing.source.label != source.label:
        raise Refused(
            f"its source is {existing.source.label}",
            hint=f"pgvector-sync remove {wanted.name} --keep-vectors, then apply, with "
            f'target = "{existing.target_label}": the vectors that still fit are taken over',
        )
    changes = differences(existing.options, wanted.options)
    changes += _meant_differently(connection, existing, wanted.options, source, meant)
    if target_exists and any(change.effect & Effect.RETYPES for change in changes):
        _require_empty_target(connection, existing, wanted)
    return tuple(changes)


def _require_empty_target(connection: Connection, existing: Pipeline, wanted: PipelineConfig) -> None:
    if target_table.filled(connection, (existing.target_schema, existing.target_table)):
        raise Refused(
            f"{existing.target_label} holds {existing.options.column_type} vectors, "
            f"which {wanted.options.column_type} would make unusable",
            hint="declare a second pipeline with the new dimensions, switch your queries to its target when "
            f"`status` says it is fresh, then `pgvector-sync remove {wanted.name}`",
        )


def _meant_differently(
    connection: Connection, existing: Pipeline, wanted: Options, source: Source, meant: Expressions
) -> list[Change]:
    """The same spelling that is resolved in another way by now: the search_path has changed, say."""
    changes = []
    stored = existing.options
    if stored.text == wanted.text and not same_meaning(connection, source, existing.text_sql, meant.text):
        changes.append(Change("text", existing.text_sql, meant.text))
    before, after = existing.where_sql, meant.where
    same = before is None or after is None or same_meaning(connection, source, before, after)
    if stored.where == wanted.where and not same:
        changes.append(Change("where", before or "", after or ""))
    return changes
