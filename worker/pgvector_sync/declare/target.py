"""Choosing a pipeline's target: a table to create, a kept target to take over, or the existing one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.declare.file import PipelineConfig
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, Spec
from pgvector_sync.store import target_ddl, target_table
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.key_change import KeyChange
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.target_table import Standing

NAME_LIMIT_BYTES = 63


@dataclass(frozen=True)
class TakeOver:
    """A target that a removed pipeline left behind and that fits this one."""

    standing: Standing
    vectors: int
    vectors_exact: bool
    orphans: int | None
    """Vectors without a row, which are removed; None if the target is too large to count them."""
    changes: tuple[KeyChange, ...]
    former: str | None
    """The source whose vectors the target holds, if it isn't the pipeline's source; else None."""

    @property
    def words(self) -> str:
        """The takeover as text to show."""
        count = f"{self.vectors:,}" if self.vectors_exact else f"about {self.vectors:,}"
        text = f"takes over {self.standing.label}, {count} vectors"
        if self.former is not None:
            text += f" of {self.former}"
        if self.orphans is None:
            text += "; those without a row are removed"
        elif self.orphans:
            text += f", of which {self.orphans:,} have no row and are removed"
        return text

    @property
    def removes_vectors(self) -> bool:
        """Whether taking over may remove vectors that are still wanted."""
        return self.former is not None or self.orphans is None or self.orphans > 0


def choose_target(
    wanted: PipelineConfig, existing: Pipeline | None, source: Source, taken: dict[Target, str]
) -> Target:
    """Return the target's name, from the file or derived from the source's. Raises Refused if it is taken."""
    if existing is not None:
        fixed = (existing.target_schema, existing.target_table)
        if wanted.target is not None and (wanted.target[0] or source.schema, wanted.target[1]) != fixed:
            raise Refused(
                f"the target can't be changed: it is {fixed[0]}.{fixed[1]}",
                hint=f"pgvector-sync remove {wanted.name}, then apply with the new target",
            )
        return fixed
    if wanted.target is not None:
        target = (wanted.target[0] or source.schema, wanted.target[1])
    else:
        target = (source.schema, f"{source.table}_embedding")
        if target in taken:
            target = (source.schema, f"{source.table}_{wanted.name}_embedding")
    label = f"{target[0]}.{target[1]}"
    if len(target[1].encode()) > NAME_LIMIT_BYTES:
        raise Refused(
            f"the target's name {label} is longer than {NAME_LIMIT_BYTES} bytes",
            hint='choose a shorter name: target = "short_name"',
        )
    if target in taken:
        raise Refused(
            f"{label} is already the target of pipeline {taken[target]}",
            hint=f'choose another name: target = "…" in [pipelines.{wanted.name}]',
        )
    return target


def examine_target(
    connection: Connection,
    target: Target,
    wanted: PipelineConfig,
    existing: Pipeline | None,
    source: Source,
    table: Table,
) -> tuple[TakeOver | None, bool]:
    """Return the target to take over, if any, and whether a dropped target has to be created again.

    Raises Refused if an existing table doesn't fit, or if this role isn't allowed to create the target.
    """
    standing = target_table.find(connection, target)
    if standing is None:
        _require_may_create(connection, target)
        return None, existing is not None
    if existing is None:
        return _take_over(connection, standing, wanted, source, table), False
    _require_fit(standing, existing, source, table)
    return None, False


def with_current_key(connection: Connection, existing: Pipeline) -> Pipeline:
    """Return the pipeline with the current key columns of its target."""
    standing = target_table.find(connection, (existing.target_schema, existing.target_table))
    if standing is None or len(standing.key) != len(existing.source.key):
        return existing
    return replace(existing, source=replace(existing.source, key=standing.key))


def _require_may_create(connection: Connection, target: Target) -> None:
    label = f"{target[0]}.{target[1]}"
    permission = target_ddl.may_create(connection, target[0])
    if permission is None:
        raise Refused(
            f"the target's schema {target[0]} doesn't exist", hint=f"CREATE SCHEMA {_quoted(target[0])};"
        )
    if not permission.may_create:
        raise Refused(
            f"role {permission.role} can't create {label}",
            hint=f"GRANT CREATE ON SCHEMA {_quoted(target[0])} TO {_quoted(permission.role)};",
        )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _take_over(
    connection: Connection, standing: Standing, wanted: PipelineConfig, source: Source, table: Table
) -> TakeOver:
    """Raises Refused, with the differences, for a table that isn't a kept target of the right shape."""
    another = f'choose another name: target = "…" in [pipelines.{wanted.name}]'
    if not standing.ours:
        raise Refused(
            f"{standing.label} already exists and isn't a target kept by pgvector-sync",
            hint=f"{another}; or drop it",
        )
    spec = Spec.of_documents(wanted.options)
    fit = target_table.fit(standing, source, table, spec, wanted.options.vector_type)
    if fit.differs:
        raise target_table.refusal(
            standing, fit.differs, hint=f"alter it to fit; or {another}; or, to embed every row again, drop it"
        )
    target_table.require_owner(connection, standing, "taking over a target")
    vectors, exact = target_table.count(connection, standing)
    orphans = target_table.count_orphans(connection, standing, source) if exact else None
    former = standing.embeds if standing.embeds != source.label else None
    return TakeOver(standing, vectors, exact, orphans, fit.changes, former)


def _require_fit(standing: Standing, existing: Pipeline, source: Source, table: Table) -> None:
    """Raises Refused if a pipeline's target no longer fits. `rekey` handles a changed key."""
    differs = target_table.fit(standing, source, table, existing.spec, existing.options.vector_type).differs
    if differs:
        raise target_table.refusal(
            standing,
            differs,
            hint="undo the manual change; or, to embed every row again: "
            f"pgvector-sync remove {existing.name}, then apply",
        )
