"""Asking for a run: whoever asks writes its row, and any worker, or `sync`, carries it out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, Database, reading
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store import catalog, expressions, pipelines, runs, sizes, watch
from pgvector_sync.store.runs import Kind
from pgvector_sync.store.shape import Shape, expression, name
from pgvector_sync.store.trust import require_trusted

COUNT_LIMIT_ROWS = 100_000
SLOWEST = 0.01
"""Rows a second."""
KEYS_AT_ONCE = 5_000
_UNKNOWN = ("42883", "42704")
"""SQLSTATE of an unknown function, operator or type."""
_QUALIFY = "a worker looks names up in pg_catalog alone: write public.f(x), a OPERATOR(public.=) b, x::public.t"


@dataclass(frozen=True, slots=True)
class Requested:
    """A run that was asked for; `joined` is one that was running already, for the very same."""

    run_id: int
    rows_total: int | None
    joined: bool = False


def request_reembed(
    database: Database,
    pipeline: str,
    *,
    where: str | None = None,
    keys: Iterable[Key] | None = None,
    stale_only: bool = False,
    force: bool = False,
    rows_per_second: float | None = None,
    not_within: timedelta = timedelta(0),
) -> Requested:
    """Every row, or those for which the SQL condition `where` is true, or those of `keys`, is read again.

    Only what differs is paid for, unless `force`. `stale_only` enqueues only rows whose fingerprint differs. What
    is the very same as a run that began within the last `not_within` is that run.
    Raises Refused for an unknown pipeline, a condition that isn't one, or no key.
    """
    if where is not None and keys is not None:
        raise Refused("either a condition or keys", hint="leave one of them out")
    if rows_per_second is not None and not SLOWEST <= rows_per_second < math.inf:
        raise Refused(f"{rows_per_second:g} rows a second is no rate", hint=f"give {SLOWEST:g} or more")
    options: dict[str, Any] = {
        "where": where,
        "keys": keys is not None,
        "stale_only": stale_only,
        "force": force,
        "rows_per_second": rows_per_second,
    }
    options = {option: value for option, value in options.items() if value}
    # read to their end first: whoever types them takes more time than a transaction of ours may idle
    given = None if keys is None else list(dict.fromkeys(keys))
    with database.transaction(durable=True) as connection:
        found = _pipeline(connection, pipeline, whole=where is not None)
        if where is not None:
            check_condition(connection, Shape(found, database.vector_schema), where)
        same = runs.same(connection, found.id, Kind.REEMBED, options, within=not_within) if keys is None else None
        if same is not None:
            return Requested(same, None, joined=True)
        total = None if keys is not None else count_rows(connection, found)
        run_id = runs.start(connection, found.id, Kind.REEMBED, options=options, rows_total=total)
        assert run_id is not None  # noqa: S101  only a reconciliation can be refused
        if given is not None:
            total = _add_keys(connection, run_id, given)
    return Requested(run_id, total)


def request_reconcile(
    database: Database,
    pipeline: str,
    *,
    deep: bool = False,
    dry_run: bool = False,
    accept_orphans: bool = False,
    **more: Any,
) -> Requested:
    """Source and target are compared from end to end; `deep` compares the texts as well.

    `more` are further options of the run, from a schedule. Raises Refused while another kind of reconciliation
    of the pipeline runs.
    """
    options = {"deep": deep, "dry_run": dry_run, "accept_orphans": accept_orphans, **more}
    options = {option: value for option, value in options.items() if value}
    with database.transaction(durable=True) as connection:
        found = _pipeline(connection, pipeline)
        options.setdefault("orphan_share", found.schedule.orphan_share)
        options.setdefault("page_rows", found.schedule.page_rows)
        total = count_rows(connection, found)
        run_id = runs.start(connection, found.id, Kind.RECONCILE, options=options, rows_total=total)
        if run_id is not None:
            if deep and not dry_run:
                watch.rechecked(connection, found.id)
            return Requested(run_id, total)
        same = runs.same(connection, found.id, Kind.RECONCILE, options)
        if same is not None:
            return Requested(same, total, joined=True)
    raise Refused(
        f"{pipeline} is being reconciled in another way",
        hint=f"`pgvector-sync runs list {pipeline}` shows it: wait for it, or `pgvector-sync runs cancel` it",
    )


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
