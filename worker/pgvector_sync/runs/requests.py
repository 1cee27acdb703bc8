"""Request a run: write its row, which any worker, or `sync`, then carries out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pgvector_sync.database import Connection, Database, reading
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.model.request import BY_KEYS_AND_MODEL, EVERY_ROW, Kind, Reconcile, Reembed
from pgvector_sync.store import catalog, conditions, pipelines, runs, sizes, watch
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.runs import Run
from pgvector_sync.store.shape import Shape, name
from pgvector_sync.store.trust import require_trusted

COUNT_LIMIT_ROWS = 100_000
KEYS_AT_ONCE = 5_000
START_TRIES = 3
"""The run that is in the way of a reconciliation may end before it is compared with the request."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The answer to a request for a run."""

    pipeline: str
    run_id: int
    rows_total: int | None
    """Number of rows to check, an estimate for a large source. None if an identical run was joined."""
    joined: bool = False
    """Whether `run_id` is an identical run that was started earlier."""


def request_reembed(
    database: Database,
    pipeline: str,
    request: Reembed = EVERY_ROW,
    *,
    keys: Iterable[Key] | None = None,
    not_within: timedelta = timedelta(0),
) -> Requested:
    """Request a re-embed. `keys` are the rows of a request by keys.

    An identical run that is running, or that began within the last `not_within`, is joined. Raises Refused if the
    pipeline is unknown, the condition isn't valid, or the list of keys is empty.
    """
    request = replace(request, keys=keys is not None)
    # read them all before the transaction, which mustn't idle while a user types keys
    listed = None if keys is None else list(dict.fromkeys(keys))
    with database.transaction(durable=True) as connection:
        stored = _pipeline(connection, pipeline, whole=request.where is not None)
        if request.where is not None:
            conditions.require_valid(
                connection, Shape(stored, database.vector_schema), Condition.without_params(request.where)
            )
        same = runs.find_identical(connection, stored.id, request, within=not_within) if listed is None else None
        if same is not None:
            return Requested(pipeline, same, None, joined=True)
        total = None if listed is not None else count_rows(connection, stored)
        run_id = runs.start(connection, stored.id, request, rows_total=total)
        assert run_id is not None  # noqa: S101  only a reconciliation can be refused
        if listed is not None:
            total = _add_keys(connection, run_id, listed)
    return Requested(pipeline, run_id, total)


def request_reconcile(database: Database, pipeline: str, request: Reconcile = BY_KEYS_AND_MODEL) -> Requested:
    """Request a reconciliation. Raises Refused while one of the same pipeline runs with different options."""
    with database.transaction(durable=True) as connection:
        stored = _pipeline(connection, pipeline)
        total = count_rows(connection, stored)
        for _ in range(START_TRIES):
            run_id = runs.start(connection, stored.id, request, rows_total=total)
            if run_id is not None:
                if request.deep and not request.dry_run:
                    watch.rechecked(connection, stored.id)
                return Requested(pipeline, run_id, total)
            same = runs.find_identical(connection, stored.id, request)
            if same is not None:
                return Requested(pipeline, same, None, joined=True)
    raise Refused(
        f"{pipeline} is already being reconciled with different options",
        hint=f"find the run with `pgvector-sync runs list {pipeline}`, then wait for it or cancel it",
    )


def cancel(database: Database, run: Run) -> None:
    """Stop a run from enqueuing more rows. Raises Refused for a backfill, and for a run that has ended."""
    if run.kind is Kind.BACKFILL and run.running:
        raise Refused(
            "a backfill can't be cancelled: rows beyond its watermark would be lost",
            hint=f"stop it for now with `pgvector-sync pause {run.pipeline}`, or remove the pipeline",
        )
    if not database.retry_on_lock_conflict(lambda connection: runs.cancel(connection, run.id)):
        raise Refused(f"run {run.id} has already ended", hint=f"see `pgvector-sync runs show {run.id}`")


def _pipeline(connection: Connection, wanted: str, *, whole: bool = False) -> Pipeline:
    """Return the stored pipeline. `whole` checks all columns of its source, for a condition on any of them."""
    pipeline = pipelines.require_pipeline(connection, wanted)
    if pipeline.state == "removing":
        raise Refused(f"{wanted} is being removed", hint=f"finish with: pgvector-sync remove {wanted}")
    require_trusted(connection, pipeline, whole=whole)
    return pipeline


def count_rows(connection: Connection, pipeline: Pipeline) -> int:
    """Return the number of rows of the source, or the planner's estimate if there are many."""
    source = pipeline.source
    with reading(connection):
        counted = sizes.count_up_to(connection, name(source.schema, source.table), limit=COUNT_LIMIT_ROWS + 1)
    if counted <= COUNT_LIMIT_ROWS:
        return counted
    return max(counted, catalog.find_table(connection, source.schema, source.table).estimated_rows)


def _add_keys(connection: Connection, run_id: int, keys: Sequence[Key]) -> int:
    for start in range(0, len(keys), KEYS_AT_ONCE):
        runs.add_keys(connection, run_id, keys[start : start + KEYS_AT_ONCE])
    total = runs.count_keys(connection, run_id)
    if not total:
        raise Refused("the list of keys is empty", hint='write one key per line: 42, abc or ["eu", 7]')
    return total
