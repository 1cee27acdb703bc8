"""Runs: the request is a row, the worker holds a lease on it, the watermark says how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.model.request import Backfill, Kind, Request, Unreadable, options_of, read_request
from pgvector_sync.store.leases import Lease
from pgvector_sync.store.work import jsonb_keys


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process carries out for a while."""

    id: int
    kind: Kind
    pipeline: str
    request: Request | Unreadable
    watermark: Key | None
    walked: bool
    started_at: datetime
    claimed_at: datetime
    """By the database's clock."""
    lease: UUID
    spec_version: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as `runs list` shows it."""

    id: int
    pipeline: str
    kind: Kind
    state: str
    """`running`, `finished`, `cancelled` or `failed`."""
    reason: str | None
    requested_by: str
    """The role that asked for it."""
    request: Request | Unreadable
    """What was asked for."""
    rows_total: int | None
    """An estimate, made at the start."""
    rows_seen: int
    rows_enqueued: int
    walked: bool
    waiting: int
    """Of those enqueued, how many are not done yet."""
    dead: int
    counts: dict[str, int]
    samples: dict[str, list[Any]]
    started_at: datetime
    finished_at: datetime | None

    @property
    def running(self) -> bool:
        return self.state == "running"


def start(connection: Connection, pipeline_id: int, request: Request, *, rows_total: int | None) -> int | None:
    """Writes the run; returns its id. None where another reconciliation of the pipeline is running."""
    params = {**_asked(pipeline_id, request), "rows_total": rows_total}
    row = connection.execute(statement("runs.start"), params).fetchone()
    return None if row is None else int(row["id"])


def _asked(pipeline_id: int, request: Request) -> dict[str, Any]:
    return {"pipeline_id": pipeline_id, "kind": request.kind, "options": Jsonb(options_of(request))}


def start_backfill(connection: Connection, pipeline_id: int, *, rows_total: int) -> int:
    """Writes the run that enqueues every row, in place of one still running; returns its id."""
    supersede(connection, pipeline_id, Kind.BACKFILL)
    started = start(connection, pipeline_id, Backfill(), rows_total=rows_total)
    assert started is not None  # noqa: S101  only a reconciliation can be refused
    return started


def supersede(connection: Connection, pipeline_id: int, kind: Kind) -> None:
    """Ends running runs of a kind: what is asked for next looks at every row anyway."""
    connection.execute(statement("runs.supersede"), {"pipeline_id": pipeline_id, "kind": kind})


def same(
    connection: Connection, pipeline_id: int, request: Request, *, within: timedelta = timedelta(0)
) -> int | None:
    """The id of a run of an identical request that is running, or began within the last `within`."""
    params = {**_asked(pipeline_id, request), "within": within}
    row = connection.execute(statement("runs.same"), params).fetchone()
    return None if row is None else int(row["id"])


def due_runs(connection: Connection) -> list[tuple[int, Kind, str]]:
    """(run id, kind, pipeline) of running runs that nobody carries out at the moment."""
    query = statement("runs.due").format(may_carry_out=part("runs.may_carry_out"))
    return [(row["id"], Kind(row["kind"]), row["pipeline"]) for row in connection.execute(query)]


def claim(connection: Connection, run_id: int, lease: Lease) -> ClaimedRun | None:
    """None if it is held, done, or its pipeline paused."""
    params = {**lease.params, "id": run_id}
    query = statement("runs.claim").format(may_carry_out=part("runs.may_carry_out"))
    row = connection.execute(query, params).fetchone()
    if row is None:
        return None
    return ClaimedRun(
        id=row["id"],
        kind=Kind(row["kind"]),
        pipeline=row["pipeline"],
        request=read_request(Kind(row["kind"]), row["options"]),
        watermark=None if row["watermark"] is None else tuple(row["watermark"]),
        walked=row["walked"],
        started_at=row["started_at"],
        claimed_at=row["claimed_at"],
        lease=lease.id,
        spec_version=row["spec_version"],
        counts=_counts(row["counts"]),
        samples=_samples(row["samples"]),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _counts(value: Any) -> dict[str, int]:
    """Numbers by name, whoever has written the run."""
    return {name: count for name, count in _object(value).items() if type(count) is int}


def _samples(value: Any) -> dict[str, list[Any]]:
    """Keys by kind."""
    return {
        kind: [key for key in keys if _is_key(key)]
        for kind, keys in _object(value).items()
        if isinstance(keys, list)
    }


def _is_key(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(part) in (int, str) for part in value)


def bulk_depth(connection: Connection, pipeline: Pipeline, *, limit: int) -> int:
    params = {"pipeline_id": pipeline.id, "limit": limit}
    return int(one(connection, statement("runs.bulk_depth"), params)["depth"])


def enqueue(
    connection: Connection, pipeline: Pipeline, run_id: int, keys: Sequence[Key], *, force: bool = False
) -> int:
    """Into the bulk lane; returns how many were not waiting already. `force`: to be paid for again."""
    params = {"pipeline_id": pipeline.id, "run_id": run_id, "keys": jsonb_keys(keys), "force": force}
    return connection.execute(statement("runs.enqueue"), params).rowcount


def advance(connection: Connection, run: ClaimedRun, *, seen: int, enqueued: int) -> bool:
    """Stores how far `run` is. False if it was cancelled or taken over, or its pipeline's spec is another by now;
    the page must then not commit.
    """
    params = {
        "id": run.id,
        "lease": run.lease,
        "spec_version": run.spec_version,
        "watermark": None if run.watermark is None else Jsonb(list(run.watermark)),
        "walked": run.walked,
        "seen": seen,
        "enqueued": enqueued,
        "counts": Jsonb(run.counts) if run.counts else None,
        "samples": Jsonb(run.samples) if run.samples else None,
    }
    return connection.execute(statement("runs.advance"), params).rowcount == 1


def finish(connection: Connection, run: ClaimedRun) -> bool:
    """True if it is finished: walked to the end, and none of its rows waits any more."""
    finished = connection.execute(statement("runs.finish"), {"id": run.id, "lease": run.lease}).rowcount == 1
    if finished:
        connection.execute(statement("runs.forget_keys"), {"run_id": run.id})
    return finished


def fail(connection: Connection, run: ClaimedRun, reason: str) -> bool:
    """It can't go on, or must not."""
    params = {"id": run.id, "lease": run.lease, "reason": reason}
    failed = connection.execute(statement("runs.fail"), params).rowcount == 1
    if failed:
        connection.execute(statement("runs.forget_keys"), {"run_id": run.id})
    return failed


def give_back(connection: Connection, run: ClaimedRun, *, delay: timedelta) -> None:
    connection.execute(statement("runs.yield"), {"id": run.id, "lease": run.lease, "delay": delay})


def cancel(connection: Connection, run_id: int) -> bool:
    """False where it has ended, or is a backfill. What it has enqueued is done, but not paid for again."""
    cancelled = connection.execute(statement("runs.cancel"), {"id": run_id}).rowcount == 1
    if cancelled:
        connection.execute(statement("runs.spare"), {"id": run_id})
        connection.execute(statement("runs.forget_keys"), {"run_id": run_id})
    return cancelled


def add_keys(connection: Connection, run_id: int, keys: Sequence[Key]) -> None:
    """To a run's list."""
    connection.execute(statement("runs.add_keys"), {"run_id": run_id, "keys": jsonb_keys(keys)})


def count_keys(connection: Connection, run_id: int) -> int:
    """Stores how many keys the list has as the run's total."""
    return int(one(connection, statement("runs.count_keys"), {"run_id": run_id})["rows_total"])


def key_page(connection: Connection, run_id: int, after: Key | None, *, limit: int) -> list[Key]:
    """The next keys of a run's list."""
    params = {"run_id": run_id, "after": None if after is None else Jsonb(list(after)), "limit": limit}
    return [tuple(row["key"]) for row in connection.execute(statement("runs.key_page"), params)]


def list_runs(
    connection: Connection, *, pipeline: str | None = None, run_id: int | None = None, limit: int = 50
) -> list[Run]:
    """Newest first."""
    params = {"pipeline": pipeline, "id": run_id, "limit": limit}
    return [_run(**row) for row in connection.execute(statement("runs.list"), params)]


def _run(*, kind: str, options: Any, counts: Any, samples: Any, **row: Any) -> Run:
    request = read_request(Kind(kind), options)
    return Run(kind=Kind(kind), request=request, counts=_counts(counts), samples=_samples(samples), **row)


def forget(connection: Connection, *, older_than: timedelta) -> int:
    """Deletes runs that ended longer ago."""
    return connection.execute(statement("runs.forget"), {"older_than": older_than}).rowcount
