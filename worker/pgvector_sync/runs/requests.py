"""Asking for a run: whoever asks writes its row, and any worker, or `sync`, carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, Database, reading
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.model.request import BY_KEYS_AND_MODEL, EVERY_ROW, Kind, Reconcile, Reembed
from pgvector_sync.store import catalog, expressions, pipelines, runs, sizes, watch
from pgvector_sync.store.runs import Run
from pgvector_sync.store.shape import Shape, expression, name
from pgvector_sync.store.trust import require_trusted

COUNT_LIMIT_ROWS = 100_000
KEYS_AT_ONCE = 5_000
_UNKNOWN = ("42883", "42704")
"""SQLSTATE of an unknown function, operator or type."""
_QUALIFY = "a worker looks names up in pg_catalog alone: write public.f(x), a OPERATOR(public.=) b, x::public.t"


@dataclass(frozen=True, slots=True)
class Requested:
    """A run that was asked for."""

    pipeline: str
    run_id: int
    rows_total: int | None
    """Rows to look at, an estimate for a large source; None where an identical request was joined."""
    joined: bool = False
    """Whether an identical request was running already: it is the run."""


def request_reembed(
    database: Database,
    pipeline: str,
    request: Reembed = EVERY_ROW,
    *,
    keys: Iterable[Key] | None = None,
    not_within: timedelta = timedelta(0),
) -> Requested:
    """Write the run of a re-embed; `keys` are the rows of a request by keys.

    An identical request that is running, or began within the last `not_within`, is joined. Raises Refused for an
    unknown pipeline, a condition that isn't one, or an empty list of keys.
    """
    request = replace(request, keys=keys is not None)
    # read to their end first: whoever types them takes more time than a transaction of ours may idle
    listed = None if keys is None else list(dict.fromkeys(keys))
    with database.transaction(durable=True) as connection:
        found = _pipeline(connection, pipeline, whole=request.where is not None)
        if request.where is not None:
            check_condition(connection, Shape(found, database.vector_schema), request.where)
        same = runs.find_identical(connection, found.id, request, within=not_within) if listed is None else None
        if same is not None:
            return Requested(pipeline, same, None, joined=True)
        total = None if listed is not None else count_rows(connection, found)
        run_id = runs.start(connection, found.id, request, rows_total=total)
        assert run_id is not None  # noqa: S101  only a reconciliation can be refused
        if listed is not None:
            total = _add_keys(connection, run_id, listed)
    return Requested(pipeline, run_id, total)


def request_reconcile(database: Database, pipeline: str, request: Reconcile = BY_KEYS_AND_MODEL) -> Requested:
    """Write the run of a reconciliation. Raises Refused while a different one of the pipeline runs."""
    with database.transaction(durable=True) as connection:
        found = _pipeline(connection, pipeline)
        total = count_rows(connection, found)
        run_id = runs.start(connection, found.id, request, rows_total=total)
        if run_id is not None:
            if request.deep and not request.dry_run:
                watch.rechecked(connection, found.id)
            return Requested(pipeline, run_id, total)
        same = runs.find_identical(connection, found.id, request)
        if same is not None:
            return Requested(pipeline, same, None, joined=True)
    raise Refused(
        f"{pipeline} is being reconciled in another way",
        hint=f"`pgvector-sync runs list {pipeline}` shows it: wait for it, or `pgvector-sync runs cancel` it",
    )


def cancel(database: Database, run: Run) -> None:
    """Lets a run enqueue no more. Raises Refused for a backfill, and for a run that has ended."""
    if run.kind is Kind.BACKFILL and run.running:
        raise Refused(
            "a backfill can't be cancelled: rows beyond its watermark would be lost",
            hint=f"pgvector-sync pause {run.pipeline} stops it for now, remove for good",
        )
    if not database.retry_on_lock_conflict(lambda connection: runs.cancel(connection, run.id)):
        raise Refused(f"run {run.id} has ended already", hint=f"see `pgvector-sync runs show {run.id}`")


def _pipeline(connection: Connection, wanted: str, *, whole: bool = False) -> Pipeline:
    """`whole`: a condition on any column follows."""
    found = pipelines.require_pipeline(connection, wanted)
    if found.state == "removing":
        raise Refused(f"{wanted} is being removed", hint=f"finish that: pgvector-sync remove {wanted}")
    require_trusted(connection, found, whole=whole)
    return found


def check_condition(connection: Connection, shape: Shape, where: str) -> None:
    """Raises Refused unless it is a boolean expression over the source. It is planned, and not executed."""
    # in our parentheses it can't go on with another clause, without them it can't close them: "a) OR (b"
    forms = (expression(where), sql.SQL(where.replace("%", "%%")))
    try:
        with reading(connection):
            for condition in forms:
                expressions.explain(connection, shape.source, condition)
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(("42", "22", "0A")):
            raise
        # the message names columns and functions of the user's own condition
        primary = error.diag.message_primary or "it does not parse"
        raise Refused(
            f"the condition is not valid for {shape.pipeline.source.label}: {primary}",
            hint=_QUALIFY
            if error.sqlstate in _UNKNOWN
            else """write one over the row's columns, such as "updated_at < '2026-01-01'" """.strip(),
        ) from None


def count_rows(connection: Connection, pipeline: Pipeline) -> int:
    """Rows of the source: counted where they are few, the planner's estimate beyond."""
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
        raise Refused("there is no key in the list", hint='one a line: 42, abc or ["eu", 7]')
    return total
