"""A changed key of a source: its columns renamed, or their types widened, under all its pipelines at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from pgvector_sync.capture import triggers
from pgvector_sync.database import Connection, Database
from pgvector_sync.declare.gap import Say, Site, in_a_gap
from pgvector_sync.errors import Refused
from pgvector_sync.model import KeyColumn, Pipeline, Source, State
from pgvector_sync.model.request import Kind
from pgvector_sync.store import dead_letters, locks, pipelines, runs, sources, target_ddl, target_table
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange, key_changes
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.triggers import Capture


@dataclass(frozen=True)
class TargetChange:
    """What one pipeline's target needs for the new key."""

    target: Target
    vectors: int
    vectors_exact: bool
    changes: tuple[KeyChange, ...]

    @property
    def rewritten(self) -> bool:
        return target_ddl.is_rewritten(self.changes)

    @property
    def words(self) -> str:
        """For a person."""
        label = f"{self.target[0]}.{self.target[1]}"
        if not self.rewritten:
            names = [f"{c.before.name} → {c.after.name}" for c in self.changes if c.renames]
            return f"alters {label}" + (f": {', '.join(names)}" if names else "")
        count = f"{self.vectors:,}" if self.vectors_exact else f"about {self.vectors:,}"
        return f"rewrites {label} and its indexes, {count} rows; searches wait meanwhile"


@dataclass(frozen=True)
class Rekey:
    """One source's new key."""

    before: tuple[KeyColumn, ...]
    source: Source
    """With its new key."""
    table: Table
    pipelines: tuple[str, ...]
    """All of the source, whether or not the file has them."""
    targets: tuple[TargetChange, ...]
    capture: Capture | None = None
    """The triggers for the new key; set once every pipeline is planned."""

    def read(self, connection: Connection) -> set[str]:
        """The columns that the pipelines read so far, by the names that they have now."""
        names = {old.name: new.name for old, new in zip(self.before, self.source.key, strict=True)}
        readers = sources.pipelines(connection, self.source.id)
        return {names.get(column, column) for reader in readers for column in reader.read_columns}

    @property
    def words(self) -> list[str]:
        """For a person: `id integer → bigint`."""
        said = []
        for change in key_changes(self.before, self.source.key) or ():
            old, new = change.before, change.after
            if change.renames and change.retypes:
                said.append(f"{old.name} {old.type} → {new.name} {new.type}")
            elif change.renames:
                said.append(f"{old.name} → {new.name}")
            else:
                said.append(f"{old.name} {old.type} → {new.type}")
        return said


def plan_rekey(connection: Connection, source: Source, table: Table, stored: Iterable[Pipeline]) -> list[Rekey]:
    """None or one: the source's key differs from the stored one, or from that of a target.

    Raises Refused for a target that can't be altered.
    """
    every = _pipelines(source, stored)
    changed = []
    for pipeline in every:
        standing = target_table.find(connection, (pipeline.target_schema, pipeline.target_table))
        if standing is None:
            continue
        fit = target_table.fit(standing, source, table, pipeline.spec, pipeline.options.vector_type)
        if fit.differs:
            raise target_table.refusal(
                standing,
                fit.differs,
                hint=f"put back what was changed by hand; or pgvector-sync remove {pipeline.name}, then apply",
            )
        if fit.changes:
            target_table.require_owner(connection, standing, "a changed key")
            changed.append(TargetChange(standing.target, *target_table.count(connection, standing), fit.changes))
    before = every[0].source.key if every else source.key
    if before == source.key and not changed:
        return []
    return [Rekey(before, source, table, tuple(p.name for p in every), tuple(changed))]


def _pipelines(source: Source, stored: Iterable[Pipeline]) -> list[Pipeline]:
    return [p for p in stored if source.id and p.source.id == source.id and p.state is not State.REMOVING]


def require_carried_over(source: Source, table: Table, stored: Iterable[Pipeline]) -> None:
    """Raises Refused, with the way out, where stored keys would be read in another way under the source's key."""
    every = _pipelines(source, stored)
    if not every:
        return
    before, pipeline = every[0].source.key, every[0].name
    changes = key_changes(before, source.key)
    was = ", ".join(f"{column.name} {column.type}" for column in before)
    key = ", ".join(f"{column.name} {column.type}" for column in source.key)
    if changes is None:
        raise Refused(
            f"the key of {source.label} was ({was}) and is ({key}): its rows can't be told apart as before",
            hint="every row has to be embedded again: remove each pipeline of this source "
            f"(pgvector-sync remove {pipeline}), then apply",
        )
    for change in changes:
        if change.renames and table.column(change.before.name) is not None:
            raise Refused(
                f"the key of {source.label} was ({was}) and is ({key}), and {change.before.name} is still there: "
                "that is another column rather than a renamed one",
                hint=f"if it holds the same values: pgvector-sync remove {pipeline} --keep-vectors, and so each "
                "pipeline of this source, then apply, which takes the vectors over and reads every row",
            )


def carry_out(database: Database, rekey: Rekey, *, say: Say) -> None:
    """Alters targets, source and triggers; then a deep reconciliation is owed: a rename may be another column.

    Types first, each target in a transaction of its own: a wider column takes what workers still write under the
    old key, and a rewrite that takes long must not be lost because no gap comes on the source, nor hold it up.
    """
    for change in rekey.targets:
        widen(database, change.target, rekey.table, change.changes, say=say)
    site = Site((rekey.source.schema, rekey.source.table), tuple(change.target for change in rekey.targets))
    in_a_gap(database, site, partial(_rekey, rekey), say=say)


def widen(database: Database, target: Target, table: Table, changes: tuple[KeyChange, ...], *, say: Say) -> None:
    """Gives a target's key columns the source's types, if they have others."""
    if any(change.retypes for change in changes):

        def retype(connection: Connection) -> None:
            target_ddl.retype_keys(connection, target, table, changes)

        in_a_gap(database, Site(targets=(target,)), retype, say=say)


def _rekey(rekey: Rekey, connection: Connection) -> None:
    locks.lock_drain(connection)
    source, planned = rekey.source, rekey.capture
    assert planned is not None  # noqa: S101  set by make_plan
    if not sources.rekey(connection, source, rekey.before, tracked=planned.tracked):
        raise Refused("another apply ran at the same time", hint="run `pgvector-sync apply` again")
    bumped = pipelines.rekey(connection, source, rekey.before)
    if bumped.keys() != set(rekey.pipelines):
        raise Refused(f"the pipelines of {source.label} changed meanwhile", hint="run `pgvector-sync apply` again")
    for pipeline_id in bumped.values():
        runs.supersede(connection, pipeline_id, Kind.RECONCILE)
        dead_letters.wake_failed(connection, pipeline_id)
    for change in rekey.targets:
        target_ddl.rename_keys(connection, change.target, change.changes)
    triggers.install(connection, replace(planned, source=source))
