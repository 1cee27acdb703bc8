"""Runs: the request is a row, the worker holds a lease on it, the watermark says how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store.database import Connection, one
from pgvector_sync.store.statements import statement
from pgvector_sync.store.work import jsonb_keys


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    id: int
    kind: str
    pipeline: str
    watermark: Key | None
    walked: bool
    lease: UUID


def start_fill(connection: Connection, pipeline_id: int, *, rows_total: int) -> int:
    """Writes the run that enqueues every row, in place of one still running; returns its id."""
    connection.execute(statement("runs.supersede"), {"pipeline_id": pipeline_id, "kind": "fill"})
    params = {"pipeline_id": pipeline_id, "kind": "fill", "rows_total": rows_total}
    return int(one(connection, statement("runs.start"), params)["id"])


def due_runs(connection: Connection) -> list[tuple[int, str]]:
    """(run id, pipeline) of running runs that nobody carries out at the moment."""
    return [(row["id"], row["pipeline"]) for row in connection.execute(statement("runs.due"))]


def claim(connection: Connection, run_id: int, lease: UUID, *, lease_for: timedelta) -> ClaimedRun | None:
    """None if it is held, done, or its pipeline paused."""
    params = {"id": run_id, "lease": lease, "lease_for": lease_for}
    row = connection.execute(statement("runs.claim"), params).fetchone()
    if row is None:
        return None
    watermark = None if row["watermark"] is None else tuple(row["watermark"])
    return ClaimedRun(row["id"], row["kind"], row["pipeline"], watermark, row["walked"], lease)


def bulk_depth(connection: Connection, pipeline: Pipeline, *, limit: int) -> int:
    params = {"pipeline_id": pipeline.id, "limit": limit}
    return int(one(connection, statement("runs.bulk_depth"), params)["depth"])


def enqueue(connection: Connection, pipeline: Pipeline, run_id: int, keys: Sequence[Key]) -> int:
    """Into the bulk lane; returns how many were not waiting already."""
    params = {"pipeline_id": pipeline.id, "run_id": run_id, "keys": jsonb_keys(keys)}
    return connection.execute(statement("runs.enqueue"), params).rowcount


def advance(
    connection: Connection,
    run: ClaimedRun,
    *,
    walked: bool,
    seen: int,
    enqueued: int,
    lease_for: timedelta,
) -> bool:
    """Stores `run.watermark`. False if the run was cancelled or taken over; the page must then not commit."""
    params = {
        "id": run.id,
        "lease": run.lease,
        "watermark": None if run.watermark is None else Jsonb(list(run.watermark)),
        "walked": walked,
        "seen": seen,
        "enqueued": enqueued,
        "lease_for": lease_for,
    }
    return connection.execute(statement("runs.advance"), params).rowcount == 1


def finish(connection: Connection, run: ClaimedRun) -> bool:
    """True if it is finished: walked to the end, and none of its rows waits any more."""
    return connection.execute(statement("runs.finish"), {"id": run.id, "lease": run.lease}).rowcount == 1


def give_back(connection: Connection, run: ClaimedRun, *, delay: timedelta) -> None:
    connection.execute(statement("runs.yield"), {"id": run.id, "lease": run.lease, "delay": delay})
