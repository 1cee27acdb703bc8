"""Capture: which triggers a source needs, and how they are installed.

There is one set of triggers per source, however many pipelines read it. A waiting CREATE TRIGGER blocks every
writer behind it, so `install` must be called in a transaction with a short lock_timeout, and tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.store import catalog, triggers
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.watch import Facts


def expected_capture(facts: Sequence[Facts], server_version: int) -> Capture | None:
    """Return what should be installed on a source, given all pipelines that read it.

    None if the table doesn't exist, or if every pipeline is being removed.
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
        bytewise=table.bytewise,
        targets=tuple(sorted(pipeline.target for pipeline in living)),
        replicated=living[0].replicated,
        partitioned=table.kind == "p",
        partitions=table.partitions,
        server_version=server_version,
        spill_limited=living[0].spill_limited,
    )


def install(connection: Connection, capture: Capture) -> None:
    """Install or replace functions and triggers. Raises psycopg.errors.LockNotAvailable; then try again.

    How a column is compared depends on its type, which may have changed since `capture` was made. Creating the
    triggers locks the table, and no type can change while they are there. So only now the types are certain.
    """
    places = {capture.home, *capture.partitions}
    if any((t.schema, t.table) not in places for t in triggers.installed(connection, capture.source.id)):
        # Another table used to have the source's name. DROP TRIGGER would require being its owner.
        uninstall(connection, capture.source)
    triggers.create(connection, capture)
    table = catalog.describe_named(connection, *capture.home)
    current = replace(capture, toastable=table.toastable, bytewise=table.bytewise)
    if current != capture:
        triggers.create(connection, current)
    triggers.revoke_from_others(connection, capture)


def uninstall(connection: Connection, source: Source) -> None:
    """Drop our functions and every trigger that calls one of them."""
    triggers.drop(connection, source)


def require_owner(connection: Connection, pipeline: Pipeline, *, of_target: bool) -> None:
    """Raises Refused if this role may not drop the pipeline's functions or, with `of_target`, its target."""
    target = (pipeline.target_schema, pipeline.target_table) if of_target else None
    other = triggers.owned_by_another(connection, pipeline.source, target)
    if other is None:
        return
    owner, role = (sql.Identifier(name).as_string() for name in (other.owner, other.role))
    raise Refused(
        f"{other.label} belongs to role {other.owner}, and role {other.role} can't drop it",
        hint=f"keep the table: pgvector-sync remove {pipeline.name} --keep-vectors"
        if other.target
        else f"run the command as {other.owner}, or run `GRANT {owner} TO {role};` first",
    )
