"""Where a pipeline's vectors go: a table to be created, one of ours to be taken over, or the one it has."""

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
    """A target of ours that no pipeline has any more, and that fits."""

    standing: Standing
    vectors: int
    vectors_exact: bool
    orphans: int | None
    """Vectors without a row, which go; None where there are too many to be counted."""
    changes: tuple[KeyChange, ...]
    former: str | None
    """The source whose vectors it holds, where it has another name than the pipeline's."""

    @property
    def words(self) -> str:
        """For a person."""
        count = f"{self.vectors:,}" if self.vectors_exact else f"about {self.vectors:,}"
        said = f"takes over {self.standing.label}, {count} vectors"
        if self.former is not None:
            said += f" of {self.former}"
        if self.orphans is None:
            said += "; those without a row are removed"
        elif self.orphans:
            said += f", of which {self.orphans:,} have no row and are removed"
        return said

    @property
    def removes(self) -> bool:
        """Vectors go that somebody may still want."""
        return self.former is not None or self.orphans is None or self.orphans > 0


def choose_target(
    wanted: PipelineConfig, existing: Pipeline | None, source: Source, taken: dict[Target, str]
) -> Target:
    """Its name, from the file or made from the source's. Raises Refused for one that it can't have."""
    if existing is not None:
        fixed = (existing.target_schema, existing.target_table)
        if wanted.target is not None and (wanted.target[0] or source.schema, wanted.target[1]) != fixed:
            raise Refused(
                f"its target is {fixed[0]}.{fixed[1]}, and stays so",
                hint=f"pgvector-sync remove {wanted.name}, then apply again with the new target",
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
            hint='name a shorter one: target = "short_name"',
        )
    if target in taken:
        raise Refused(
            f"{label} is the target of pipeline {taken[target]}",
            hint=f'name another: target = "…" in [pipelines.{wanted.name}]',
        )
    return target


def stand(
    connection: Connection,
    target: Target,
    wanted: PipelineConfig,
    existing: Pipeline | None,
    source: Source,
    table: Table,
) -> tuple[TakeOver | None, bool]:
    """What is taken over at the target's name, and whether one that was dropped has to be created again.

    Raises Refused where what is there doesn't fit, or nothing is and we may not create it.
    """
    standing = target_table.find(connection, target)
    if standing is None:
        _require_may_create(connection, target)
        return None, existing is not None
    if existing is None:
        return _take_over(connection, standing, wanted, source, table), False
    _require_fit(standing, existing, source, table)
    return None, False


def as_it_stands(connection: Connection, existing: Pipeline) -> Pipeline:
    """The pipeline with the key columns that its target has now."""
    standing = target_table.find(connection, (existing.target_schema, existing.target_table))
    if standing is None or len(standing.key) != len(existing.source.key):
        return existing
    return replace(existing, source=replace(existing.source, key=standing.key))


def _require_may_create(connection: Connection, target: Target) -> None:
    label = f"{target[0]}.{target[1]}"
    may = target_ddl.may_create(connection, target[0])
    if may is None:
        raise Refused(
            f"there is no schema {target[0]} for the target", hint=f"CREATE SCHEMA {_quoted(target[0])};"
        )
    if not may.may_create:
        raise Refused(
            f"role {may.role} may not create {label}",
            hint=f"GRANT CREATE ON SCHEMA {_quoted(target[0])} TO {_quoted(may.role)};",
        )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _take_over(
    connection: Connection, standing: Standing, wanted: PipelineConfig, source: Source, table: Table
) -> TakeOver:
    """Raises Refused, with what differs, for anything that isn't a target of ours of the right shape."""
    another = f'name another: target = "…" in [pipelines.{wanted.name}]'
    if not standing.ours:
        raise Refused(
            f"{standing.label} is there already, and is not a target that pgvector-sync has kept",
            hint=f"{another}; or drop it",
        )
    options = wanted.options
    spec = Spec(options.model, options.dimensions)
    fit = target_table.fit(standing, source, table, spec, options.vector_type)
    if fit.differs:
        raise target_table.refusal(
            standing, fit.differs, hint=f"make it fit; or {another}; or drop it, to embed every row again"
        )
    target_table.require_owner(connection, standing, "taking over a target")
    vectors, exact = target_table.count(connection, standing)
    orphans = target_table.count_orphans(connection, standing, source) if exact else None
    former = standing.embeds if standing.embeds != source.label else None
    return TakeOver(standing, vectors, exact, orphans, fit.changes, former)


def _require_fit(standing: Standing, existing: Pipeline, source: Source, table: Table) -> None:
    """Raises Refused where a pipeline's target no longer fits. A changed key is the business of `rekey`."""
    differs = target_table.fit(standing, source, table, existing.spec, existing.options.vector_type).differs
    if differs:
        raise target_table.refusal(
            standing,
            differs,
            hint="put back what was changed by hand; or, to embed every row again: "
            f"pgvector-sync remove {existing.name}, then apply",
        )
