"""Capture: which triggers belong on a source, and installing them.

One set of triggers a source, however many pipelines read it. A waiting CREATE TRIGGER blocks every writer behind
it, so whoever calls `install` does it in a transaction with a short lock_timeout, and tries again.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.model import Pipeline, Source, State
from pgvector_sync.store import triggers
from pgvector_sync.store.triggers import Capture
from pgvector_sync.store.watch import Facts


def of_stored(facts: Sequence[Facts], server_version: int) -> Capture | None:
    """What should be installed on the source of these pipelines, which are all that read it.

    None where there is no such table, or every pipeline is being removed.
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
        targets=tuple(sorted(pipeline.target for pipeline in living)),
        replicated=living[0].replicated,
        partitioned=table.kind == "p",
        partitions=table.partitions,
        server_version=server_version,
    )


def install(connection: Connection, capture: Capture) -> None:
    """Makes functions and triggers what `capture` says. Raises psycopg.errors.LockNotAvailable: try again."""
    places = {capture.home, *capture.partitions}
    if any((t.schema, t.table) not in places for t in triggers.installed(connection, capture.source.id)):
        # The table that had the source's name before goes on as any other; DROP TRIGGER would need its owner.
        uninstall(connection, capture.source)
    triggers.create(connection, capture)
    triggers.revoke_from_others(connection, capture)


def uninstall(connection: Connection, source: Source) -> None:
    """Drops our functions, and with them every trigger that calls one."""
    triggers.drop(connection, source)


def require_owner(connection: Connection, pipeline: Pipeline, *, of_target: bool) -> None:
    """Raises Refused where this role may not drop the pipeline's functions or, `of_target`, its target."""
    target = (pipeline.target_schema, pipeline.target_table) if of_target else None
    other = triggers.owned_by_another(connection, pipeline.source, target)
    if other is None:
        return
    owner, role = (sql.Identifier(name).as_string() for name in (other.owner, other.role))
    raise Refused(
        f"{other.label} belongs to role {other.owner}, and role {other.role} can't drop it",
        hint=f"pgvector-sync remove {pipeline.name} --keep-vectors leaves the table"
        if other.target
        else f"run it as {other.owner}; or GRANT {owner} TO {role};",
    )
