"""The triggers that a source's pipelines need once a plan is applied."""

from __future__ import annotations

from dataclasses import replace

from pgvector_sync.capture.faults import faults
from pgvector_sync.database import Connection
from pgvector_sync.declare.plan import PipelinePlan, Plan
from pgvector_sync.declare.rekey import Rekey
from pgvector_sync.model import Pipeline, Source
from pgvector_sync.store import catalog, sources
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.catalog import Table
from pgvector_sync.store.target_ddl import Target
from pgvector_sync.store.triggers import installed


def with_triggers(connection: Connection, rekey: Rekey, plan: Plan) -> Rekey:
    """Plan the triggers to install with the new key.

    They also track what the pipelines read before the plan, until these change.
    """
    same = [p for p in plan.pipelines if p.source.id == rekey.source.id]
    after = same[0].capture
    tracked = {*after.tracked, *rekey.read_columns(connection)}
    capture = replace(after, tracked=tuple(c.name for c in rekey.table.columns if c.name in tracked))
    if capture == after:
        plan.pipelines = [
            replace(planned, missing_triggers=()) if planned in same else planned for planned in plan.pipelines
        ]
    return replace(rekey, capture=capture)


def with_capture(
    connection: Connection, planned: PipelinePlan, plan: Plan, existing: dict[str, Pipeline]
) -> PipelinePlan:
    """Plan the triggers of a pipeline's source. They serve all its pipelines, with or without a plan."""
    same = [other for other in plan.pipelines if other.source.label == planned.source.label]
    named = {other.name for other in same}
    tracked = {name for other in same for name in other.read_columns}
    targets = {other.target for other in same}
    for other in existing.values():
        if other.source.label == planned.source.label and other.name not in named and other.state != "removing":
            targets.add((other.target_schema, other.target_table))
    replicated = any(other.options.capture_replicated for other in same)
    if planned.source.id:
        unlisted = [r for r in sources.pipelines(connection, planned.source.id) if r.name not in named]
        tracked |= {column for reader in unlisted for column in reader.read_columns}
        replicated |= any(reader.capture_replicated for reader in unlisted)
    columns = tuple(column.name for column in planned.table.columns if column.name in tracked)
    wanted = capture_of(connection, planned.source, planned.table, columns, replicated, tuple(sorted(targets)))
    if not planned.source.id:
        return replace(planned, capture=wanted, missing_triggers=("all",))
    missing = faults(wanted, installed(connection, planned.source.id))
    return replace(planned, capture=wanted, missing_triggers=tuple(map(str, missing)))


def capture_of(
    connection: Connection,
    source: Source,
    table: Table,
    tracked: tuple[str, ...],
    replicated: bool,
    targets: tuple[Target, ...] = (),
) -> Capture:
    return Capture(
        source=source,
        owner=table.owner,
        tracked=tracked,
        toastable=table.toastable,
        bytewise=table.bytewise,
        targets=targets,
        replicated=replicated,
        partitioned=table.partitioned,
        partitions=catalog.partitions(connection, table),
        server_version=connection.info.server_version,
        spill_limited=table.spill_limited,
    )
