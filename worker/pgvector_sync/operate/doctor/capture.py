"""The triggers on a source: there, enabled, and as this program makes them."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.model import Pipeline, State
from pgvector_sync.operate.doctor.check import Finding, error, ok, quoted, warning
from pgvector_sync.store import catalog
from pgvector_sync.store.database import Connection, one
from pgvector_sync.store.statements import statement
from pgvector_sync.sync.capture import ROW_TRIGGERS, Capture, partitions
from pgvector_sync.sync.runtime import Runtime

APPLY = "pgvector-sync apply"


def triggers(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Nothing, where there is no source to have any: the check `source` says so."""
    source = pipeline.source
    with runtime.database.transaction(read_only=True) as connection:
        there = connection.execute(
            statement("catalog.relation"), {"schema": source.schema, "table": source.table}
        ).fetchone()
        if there is None or pipeline.state is State.REMOVING:
            return
        wanted = _wanted(connection, pipeline, there["oid"])
        found = connection.execute(statement("doctor.triggers"), {"source_id": source.id}).fetchall()
        differing = wanted.missing(connection)
    fires = "A" if wanted.replicated else "O"
    home = (source.schema, source.table)
    have = {(row["schema"], row["table"], row["trigger"]) for row in found}
    absent = [
        f"pgvector_sync_{e}" for e in (*ROW_TRIGGERS, "truncate") if (*home, f"pgvector_sync_{e}") not in have
    ]
    silent = [row for row in found if row["enabled"] != fires]
    unswept = [place for place in wanted.partitions if (*place, "pgvector_sync_truncate") not in have]
    meanwhile = f"; what changed meanwhile, `pgvector-sync status --exact {pipeline.name}` counts"
    if absent:
        yield error(f"{source.label} lacks {', '.join(absent)}: changes go unnoticed", APPLY + meanwhile)
    enable = "ENABLE ALWAYS TRIGGER" if wanted.replicated else "ENABLE TRIGGER"
    for row in silent:
        place = f"{row['schema']}.{row['table']}"
        yield error(
            f"{row['trigger']} on {place} doesn't fire as it should: changes go unnoticed",
            f"ALTER TABLE {quoted(row['schema'], row['table'])} {enable} {quoted(row['trigger'])}; "
            f"-- what changed meanwhile, `pgvector-sync status --exact {pipeline.name}` counts",
        )
    if unswept and not absent:
        names = ", ".join(f"{schema}.{table}" for schema, table in unswept)
        yield warning(f"no TRUNCATE trigger on {names}, attached since the last apply", APPLY)
    elif differing and not absent and not silent:
        yield warning(
            f"the triggers on {source.label} are of another version of the program, or of the table", APPLY
        )
    if not (absent or silent or differing):
        yield ok(
            f"triggers on {', '.join(wanted.tracked)}" + (", replicated changes too" if wanted.replicated else "")
        )


def _wanted(connection: Connection, pipeline: Pipeline, oid: int) -> Capture:
    """What `apply` would install for the pipelines that are stored."""
    source = pipeline.source
    table = catalog.describe(connection, oid)
    rows = connection.execute(statement("pipelines.source_pipelines"), {"source_id": source.id}).fetchall()
    stored = one(connection, statement("pipelines.source_id"), {"schema": source.schema, "table": source.table})
    living = [row for row in rows if row["state"] != State.REMOVING]
    tracked = {name for row in living for name in row["read_columns"]}
    return Capture(
        source,
        table,
        tuple(column.name for column in table.columns if column.name in tracked),
        tuple(sorted((row["target_schema"], row["target_table"]) for row in living)),
        stored["capture_replicated"],
        partitions(connection, table),
        connection.info.server_version,
    )
