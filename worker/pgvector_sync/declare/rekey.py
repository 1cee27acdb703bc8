"""Applying a source's changed key, with columns renamed or widened, to all its pipelines at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from pgvector_sync.capture import triggers
from pgvector_sync.database import Connection, Database
from pgvector_sync.declare.gap import Say, Site, retry_ddl
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Pipeline, Source, State
from pgvector_sync.model.request import Kind
from pgvector_sync.store import dead_letters, locks, pipelines, runs, sources, target_ddl, target_table
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange, key_changes
from pgvector_sync.store.target_ddl import Target


@dataclass(frozen=True)
class TargetChange:
    """The changes that the new key requires in one pipeline's target."""

    target: Target
    vectors: int
    vectors_exact: bool
    changes: tuple[KeyChange, ...]

    @property
    def rewritten(self) -> bool:
        return target_ddl.is_rewritten(self.changes)

    @property
    def words(self) -> str:
        """The change as text to show."""
        label = f"{self.target[0]}.{self.target[1]}"
        if not self.rewritten:
            names = [f"{c.before.name} → {c.after.name}" for c in self.changes if c.renames]
            return f"alters {label}" + (f": {', '.join(names)}" if names else "")
        count = f"{self.vectors:,}" if self.vectors_exact else f"about {self.vectors:,}"
        return f"rewrites {label} and its indexes, {count} rows; searches wait meanwhile"


@dataclass(frozen=True)
class Rekey:
    """A source's new key."""

    before: tuple[KeyColumn, ...]
    source: Source
    """The source with its new key."""
    table: Table
    pipelines: tuple[str, ...]
    """All pipelines of the source, even those missing from the file."""
    targets: tuple[TargetChange, ...]
    capture: Capture | None = None
    """The triggers for the new key. None until all pipelines are planned."""

    def read_columns(self, connection: Connection) -> set[str]:
        """The columns that the pipelines read before `apply`, by their new names."""
        names = {old.name: new.name for old, new in zip(self.before, self.source.key, strict=True)}
        readers = sources.pipelines(connection, self.source.id)
        return {names.get(column, column) for reader in readers for column in reader.read_columns}

    @property
    def words(self) -> list[str]:
        """The changes as text to show, such as `id integer → bigint`."""
        descriptions = []
        for change in key_changes(self.before, self.source.key) or ():
            old, new = change.before, change.after
            if change.renames and change.retypes:
                descriptions.append(f"{old.name} {old.type} → {new.name} {new.type}")
            elif change.renames:
                descriptions.append(f"{old.name} → {new.name}")
            else:
                descriptions.append(f"{old.name} {old.type} → {new.type}")
        return descriptions


def plan_rekey(connection: Connection, source: Source, table: Table, stored: Iterable[Pipeline]) -> list[Rekey]:
    """Return one Rekey if the source's key differs from the stored one or a target's, else an empty list.

    Raises Refused for a target that can't be altered.
    """
    affected = _pipelines(source, stored)
    changed = []
    for pipeline in affected:
        standing = target_table.find(connection, (pipeline.target_schema, pipeline.target_table))
        if standing is None:
            continue
        fit = target_table.fit(standing, source, table, pipeline.spec, pipeline.options.vector_type)
        if fit.differs:
            raise target_table.refusal(
                standing,
                fit.differs,
                hint=f"undo the manual change; or pgvector-sync remove {pipeline.name}, then apply",
            )
        if fit.changes:
            target_table.require_owner(connection, standing, "a changed key")
            changed.append(TargetChange(standing.target, *target_table.count(connection, standing), fit.changes))
    before = affected[0].source.key if affected else source.key
    if before == source.key and not changed:
        return []
    return [Rekey(before, source, table, tuple(p.name for p in affected), tuple(changed))]


def _pipelines(source: Source, stored: Iterable[Pipeline]) -> list[Pipeline]:
    return [p for p in stored if source.id and p.source.id == source.id and p.state is not State.REMOVING]


def require_compatible_key(source: Source, table: Table, stored: Iterable[Pipeline]) -> None:
    """Raises Refused, with a way out, if the stored keys don't identify the same rows under the source's key."""
    affected = _pipelines(source, stored)
    if not affected:
        return
    before, pipeline = affected[0].source.key, affected[0].name
    changes = key_changes(before, source.key)
    was = ", ".join(f"{column.name} {column.type}" for column in before)
    key = ", ".join(f"{column.name} {column.type}" for column in source.key)
    if changes is None:
        raise Refused(
            f"the key of {source.label} was ({was}) and is now ({key}): stored keys don't match it",
            hint="every row has to be embedded again: remove each pipeline of this source "
            f"(pgvector-sync remove {pipeline}), then apply",
        )
    for change in changes:
        if change.renames and table.column(change.before.name) is not None:
            raise Refused(
                f"the key of {source.label} was ({was}) and is now ({key}), but {change.before.name} still "
                "exists: this is another column, not a renamed one",
                hint=f"if it holds the same values: pgvector-sync remove {pipeline} --keep-vectors, and likewise "
                "for each pipeline of this source, then apply, which takes over the vectors and reads every row",
            )


def carry_out(database: Database, rekey: Rekey, *, say: Say) -> None:
    """Alter targets, source and triggers, and require a deep reconciliation: a rename may be another column.

    Types are changed first, one transaction per target: a wider column accepts what workers still write under the
    old key, and a long rewrite must neither be lost if the source can't be locked nor keep the source locked.
    """
    for change in rekey.targets:
        widen(database, change.target, rekey.table, change.changes, say=say)
    site = Site((rekey.source.schema, rekey.source.table), tuple(change.target for change in rekey.targets))
    retry_ddl(database, site, partial(_rekey, rekey), say=say)


def widen(database: Database, target: Target, table: Table, changes: tuple[KeyChange, ...], *, say: Say) -> None:
    """Change the types of a target's key columns to the source's, if they differ."""
    if any(change.retypes for change in changes):

        def retype(connection: Connection) -> None:
            target_ddl.retype_keys(connection, target, table, changes)

        retry_ddl(database, Site(targets=(target,)), retype, say=say)


def _rekey(rekey: Rekey, connection: Connection) -> None:
    locks.lock_drain(connection)
    source, planned = rekey.source, rekey.capture
    assert planned is not None  # noqa: S101 - set by make_plan
    if not sources.rekey(connection, source, rekey.before, tracked=planned.tracked):
        raise Refused("another apply ran at the same time", hint="run `pgvector-sync apply` again")
    bumped = pipelines.rekey(connection, source, rekey.before)
    if bumped.keys() != set(rekey.pipelines):
        raise Refused(
            f"the pipelines of {source.label} changed since the plan was made",
            hint="run `pgvector-sync apply` again",
        )
    for pipeline_id in bumped.values():
        runs.supersede(connection, pipeline_id, Kind.RECONCILE)
        dead_letters.wake_failed(connection, pipeline_id)
    for change in rekey.targets:
        target_ddl.rename_keys(connection, change.target, change.changes)
    triggers.install(connection, replace(planned, source=source))
