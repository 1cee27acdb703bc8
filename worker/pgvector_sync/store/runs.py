"""Runs: the row is the request, the worker holds a lease on it, and the watermark is its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.loaders import duration
from pgvector_sync.database.packing import PackedKeys
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.model.progress import Progress, done_of_total
from pgvector_sync.model.request import Backfill, Kind, Request, Unreadable, options_of, read_request
from pgvector_sync.store.leases import Lease
from pgvector_sync.telemetry import spans


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process has claimed."""

    id: int
    kind: Kind
    pipeline: str
    request: Request | Unreadable
    watermark: Key | None
    walked: bool
    started_at: datetime
    claimed_at: datetime
    """The database's time of the claim."""
    lease: UUID
    traceparent: str | None = None
    """The span that has caused it."""
    spec_version: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as `runs list` shows it."""

    id: int
    pipeline: str
    kind: Kind
    state: str
    """`running`, `finished`, `cancelled` or `failed`."""
    reason: str | None
    requested_by: str
    """The role that requested it."""
    request: Request | Unreadable
    rows_total: int | None
    """Estimated at the start."""
    rows_seen: int
    rows_enqueued: int
    walked: bool
    waiting: int
    """The number of enqueued rows that aren't processed yet."""
    dead: int
    """The number of enqueued rows that became dead letters."""
    counts: dict[str, int]
    samples: dict[str, list[Any]]
    started_at: datetime
    finished_at: datetime | None

    @property
    def running(self) -> bool:
        return self.state == "running"

    def progress(self, now: datetime) -> Progress:
        """Returns how far the run is at `now`, by the database's clock."""
        done, total = done_of_total(self.rows_seen, self.waiting, self.rows_total, walked=self.walked)
        return Progress(
            self.id, self.pipeline, self.kind, done, total, (self.finished_at or now) - self.started_at
        )


def start(connection: Connection, pipeline_id: int, request: Request, *, rows_total: int | None) -> int | None:
    """Inserts a run; returns its id, None if another reconciliation of the pipeline is running."""
    traceparent = spans.current_traceparent()
    params = {**_params(pipeline_id, request), "rows_total": rows_total, "traceparent": traceparent}
    row = connection.execute(statement("runs.start"), params).fetchone()
    return None if row is None else int(row["id"])


def _params(pipeline_id: int, request: Request) -> dict[str, Any]:
    return {"pipeline_id": pipeline_id, "kind": request.kind, "options": Jsonb(options_of(request))}


def start_backfill(connection: Connection, pipeline_id: int, *, rows_total: int) -> int:
    """Inserts a backfill, which replaces a running one; returns its id."""
    supersede(connection, pipeline_id, Kind.BACKFILL)
    started = start(connection, pipeline_id, Backfill(), rows_total=rows_total)
    assert started is not None  # noqa: S101  only a reconciliation conflicts with another
    return started


def supersede(connection: Connection, pipeline_id: int, kind: Kind) -> None:
    """Ends the running runs of a kind, before a newer one that reads every row anyway."""
    connection.execute(statement("runs.supersede"), {"pipeline_id": pipeline_id, "kind": kind})


def find_identical(
    connection: Connection, pipeline_id: int, request: Request, *, within: timedelta = timedelta(0)
) -> int | None:
    """Returns the id of a run with an identical request that is running, or began within the last `within`."""
    params = {**_params(pipeline_id, request), "within": within}
    row = connection.execute(statement("runs.identical"), params).fetchone()
    return None if row is None else int(row["id"])


def due_runs(connection: Connection) -> list[tuple[int, Kind, str]]:
    """Returns (run id, kind, pipeline) of running runs that no worker is carrying out at the moment."""
    query = statement("runs.due").format(may_carry_out=part("runs.may_carry_out"))
    return [(row["id"], Kind(row["kind"]), row["pipeline"]) for row in connection.execute(query)]


def reconciling(connection: Connection) -> int:
    """Returns how many reconciliations workers are carrying out."""
    return int(one(connection, statement("runs.reconciling"))["runs"])


def claim(connection: Connection, run_id: int, lease: Lease) -> ClaimedRun | None:
    """Claims a run. Returns None if it is held by another worker or has ended, or if its pipeline is paused."""
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
        traceparent=row["traceparent"],
        spec_version=row["spec_version"],
        counts=_counts(row["counts"]),
        samples=_samples(row["samples"]),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _counts(value: Any) -> dict[str, int]:
    """The valid counts, by name. The stored value may be anything."""
    return {name: count for name, count in _object(value).items() if type(count) is int}


def _samples(value: Any) -> dict[str, list[Any]]:
    """The valid keys, by kind of drift. The stored value may be anything."""
    return {
        kind: [key for key in keys if _is_key(key)]
        for kind, keys in _object(value).items()
        if isinstance(keys, list)
    }


def _is_key(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(part) in (int, str) for part in value)


def note_trace(connection: Connection, run: ClaimedRun, traceparent: str) -> None:
    """Stores the span in which a run is first carried out, if none has requested it."""
    params = {"id": run.id, "lease": run.lease, "traceparent": traceparent}
    connection.execute(statement("runs.note_trace"), params)


def traceparents(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Returns the spans that have caused these runs, as far as they are known."""
    rows = connection.execute(statement("runs.traceparents"), {"run_ids": list(run_ids)})
    return [row["traceparent"] for row in rows]


def bulk_depth(connection: Connection, pipeline: Pipeline, *, limit: int) -> int:
    """Returns how many rows of the bulk lane wait or are in flight, each counted up to `limit`."""
    params = {"pipeline_id": pipeline.id, "limit": limit}
    return int(one(connection, statement("runs.bulk_depth"), params)["depth"])


def enqueue(
    connection: Connection, pipeline: Pipeline, run_id: int, keys: Sequence[Key], *, force: bool = False
) -> int:
    """Enqueues rows in the bulk lane; returns how many weren't waiting already. `force`: pay for them again."""
    params = {"pipeline_id": pipeline.id, "run_id": run_id, "keys": PackedKeys(keys), "force": force}
    return connection.execute(statement("runs.enqueue"), params).rowcount


def advance(connection: Connection, run: ClaimedRun, *, seen: int, enqueued: int) -> bool:
    """Stores the progress of a run. Returns False if it was cancelled or taken over, or its pipeline has changed:
    then the page must not be committed.
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
    """Finishes a run that has reached the end, if none of its rows still waits; returns whether it did."""
    finished = connection.execute(statement("runs.finish"), {"id": run.id, "lease": run.lease}).rowcount == 1
    if finished:
        connection.execute(statement("runs.forget_keys"), {"run_id": run.id})
    return finished


def fail(connection: Connection, run: ClaimedRun, reason: str) -> bool:
    """Fails a run. Returns False if it has ended, or another worker holds it."""
    params = {"id": run.id, "lease": run.lease, "reason": reason}
    failed = connection.execute(statement("runs.fail"), params).rowcount == 1
    if failed:
        connection.execute(statement("runs.forget_keys"), {"run_id": run.id})
    return failed


def give_back(connection: Connection, run: ClaimedRun, *, delay: timedelta) -> None:
    """Releases a run, which is due again after `delay`."""
    connection.execute(statement("runs.yield"), {"id": run.id, "lease": run.lease, "delay": delay})


def wake(connection: Connection, run_ids: Sequence[int]) -> None:
    """Makes runs due at once whose last row has just been processed."""
    connection.execute(statement("runs.wake"), {"run_ids": list(run_ids)})


def cancel(connection: Connection, run_id: int) -> bool:
    """Cancels a run. Returns False if it has ended or is a backfill.

    The rows that it has enqueued are still processed, but not paid for again.
    """
    cancelled = connection.execute(statement("runs.cancel"), {"id": run_id}).rowcount == 1
    if cancelled:
        connection.execute(statement("runs.clear_force"), {"id": run_id})
        connection.execute(statement("runs.forget_keys"), {"run_id": run_id})
    return cancelled


def add_keys(connection: Connection, run_id: int, keys: Sequence[Key]) -> None:
    """Adds keys to the list of a run."""
    connection.execute(statement("runs.add_keys"), {"run_id": run_id, "keys": PackedKeys(keys)})


def count_keys(connection: Connection, run_id: int) -> int:
    """Stores the number of keys in the list as the run's total; returns it."""
    return int(one(connection, statement("runs.count_keys"), {"run_id": run_id})["rows_total"])


def key_page(connection: Connection, run_id: int, after: Key | None, *, limit: int) -> list[Key]:
    """Returns the next keys of a run's list."""
    params = {"run_id": run_id, "after": None if after is None else Jsonb(list(after)), "limit": limit}
    return [tuple(row["key"]) for row in connection.execute(statement("runs.key_page"), params)]


def list_runs(
    connection: Connection, *, pipeline: str | None = None, run_id: int | None = None, limit: int = 50
) -> list[Run]:
    """Lists runs, newest first."""
    params = {"pipeline": pipeline, "id": run_id, "limit": limit}
    return [_run(**row) for row in connection.execute(statement("runs.list"), params)]


def running(connection: Connection, pipeline: str | None = None) -> list[Progress]:
    """Returns the progress of the running runs, of all pipelines or of one."""
    return [_progress(row) for row in connection.execute(statement("runs.running"), {"pipeline": pipeline})]


def _progress(row: dict[str, Any]) -> Progress:
    done, total = done_of_total(row["rows_seen"], row["waiting"], row["rows_total"], walked=row["walked"])
    return Progress(
        id=row["id"],
        pipeline=row["pipeline"],
        kind=Kind(row["kind"]),
        rows_done=done,
        rows_total=total,
        elapsed=duration(row["elapsed_seconds"]) or timedelta(),
    )


def _run(*, kind: str, options: Any, counts: Any, samples: Any, **row: Any) -> Run:
    request = read_request(Kind(kind), options)
    return Run(kind=Kind(kind), request=request, counts=_counts(counts), samples=_samples(samples), **row)


def forget(connection: Connection, *, older_than: timedelta) -> int:
    """Deletes runs that ended longer ago; returns how many."""
    return connection.execute(statement("runs.forget"), {"older_than": older_than}).rowcount
