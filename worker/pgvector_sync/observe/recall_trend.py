"""How the recall of a pipeline's index has changed since its build, in words, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import psycopg

from pgvector_sync.database import Connection
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.store import recall_history
from pgvector_sync.store.index_status import VectorIndex
from pgvector_sync.store.recall_history import RecallState

FALLEN = 0.01
"""A smaller difference between two measurements says nothing."""


def read(connection: Connection, pipeline: Pipeline) -> tuple[RecallState | None, list[Finding]]:
    """Return the last measurement, if there is one, and what it says. Nothing for a role that may not read it."""
    try:
        with connection.transaction():
            state, reason = recall_history.state(connection, pipeline)
    except psycopg.errors.InsufficientPrivilege:
        return None, []
    return state, list(judge(pipeline, state, reason))


def scans_of_others(
    connection: Connection, pipeline: Pipeline, indexes: Sequence[VectorIndex], since: datetime | None
) -> list[VectorIndex]:
    """Return the indexes without the scans by which their recall was measured, since `since` (None: ever)."""
    try:
        with connection.transaction():
            own = recall_history.scans(connection, pipeline, since=since)
    except psycopg.errors.InsufficientPrivilege:
        own = {}
    return [
        index if index.scans is None else replace(index, scans=max(0, index.scans - own.get(index.name, 0)))
        for index in indexes
    ]


def judge(pipeline: Pipeline, state: RecallState | None, reason: str | None) -> Iterator[Finding]:
    """Say how the recall has changed.

    reason: why the last attempt to measure has failed.
    """
    name = pipeline.name
    if reason is not None:
        yield warning(f"the recall of {name} couldn't be measured: {reason}", f"pgvector-sync index recall {name}")
    if state is None:
        return
    target = pipeline.options.index.recall
    fell = state.built_recall - state.recall >= FALLEN
    if not state.current:
        yield ok(f"{state.index_name} was built again or dropped since its recall was measured")
    elif fell and min(state.recall, state.used_recall) < target:
        yield warning(
            f"recall of {name} fell from {state.built_recall:.2f} to {state.recall:.2f} after {state.churn:.0%} "
            f"churn, below the target of {target:g}",
            f"rebuild the index: pgvector-sync index build {name} --rebuild",
        )
    elif state.used_recall < target:
        yield warning(
            f"{_figure(name, state)}, below the target of {target:g}",
            f"pgvector-sync index recall {name} --sweep shows what other settings reach, and pgvector-sync index "
            f"advise {name} what another index would",
        )
    elif fell:
        yield ok(
            f"{_figure(name, state)}; it fell from {state.built_recall:.2f} after {state.churn:.0%} churn",
        )
    else:
        yield ok(_figure(name, state))


def _figure(name: str, state: RecallState) -> str:
    """Return the last measurement in words."""
    queries = "real queries" if state.source == "logged" else "rows as queries"
    figure = (
        f"recall@{state.k} of {name} is {state.recall:.2f} ({state.low:.2f} to {state.high:.2f}) with "
        f"{state.setting} = {state.value}"
    )
    if state.used_value != state.value:
        figure += f", and {state.used_recall:.2f} with {state.used_value}, which `search` uses"
    return f"{figure}, by {state.queries:,} {queries} on {state.at:%Y-%m-%d}"
