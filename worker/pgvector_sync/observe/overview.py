"""What the overview of the status page shows: every pipeline, most urgent first, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection, Database
from pgvector_sync.embedding.prices import price_for
from pgvector_sync.model import Pipeline
from pgvector_sync.observe import status as status_of
from pgvector_sync.observe import todo as todos
from pgvector_sync.observe.finding import Check
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.settings import Settings
from pgvector_sync.store import overview, pipelines, runs, workers
from pgvector_sync.store.overview import Lag, Today
from pgvector_sync.store.workers import Workers

DAY = timedelta(hours=24)
POINTS = 48
"""The points of the small chart of a pipeline's last 24 hours."""
PAGE = 50
"""Pipelines per page."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a pipeline has spent since midnight UTC."""

    requests: int
    tokens: int
    inputs: int
    usd: float | None
    """US dollars; None if the price isn't known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pipeline of the overview."""

    status: PipelineStatus
    today: Spent
    worst_lag: timedelta | None
    """The longest lag of the last 24 hours; None if nothing waited, or nothing was recorded."""
    lags: tuple[Lag, ...]
    """The worst lags of the last 24 hours, oldest first."""
    todo: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """The pipelines that match a filter, on one page."""

    at: datetime
    workers: Workers
    states: dict[str, int]
    """The number of pipelines in each state."""
    todo: tuple[Check, ...]
    """What to do about the workers, then about all pipelines, most urgent first."""
    total: int
    """The number of pipelines that match the filter."""
    page: int
    pages: int
    pipelines: tuple[Row, ...]


def read_overview(
    database: Database, settings: Settings, *, search: str = "", state: str = "", page: int = 1
) -> Overview:
    """Read one page of the pipelines whose name contains `search` and which are in a state, or in any if it is "".

    A page beyond the last one is the last one.
    """
    with database.transaction(read_only=True) as connection:
        at, alive = overview.now(connection), workers.alive(connection)
        statuses = status_of.statuses(connection)
        drift = overview.last_drift(connection)
        in_bulk = {run.pipeline for run in runs.running(connection)}
        found = {
            status.name: todos.of_pipeline(
                status, drift.get(status.name), workers=alive.slots > 0, in_bulk=status.name in in_bulk
            )
            for status in statuses
        }
        statuses.sort(key=lambda status: todos.urgency(status, found[status.name]))
        matching = [status for status in statuses if search in status.name and state in ("", status.state.value)]
        pages = max(1, -(-len(matching) // PAGE))
        page = min(max(page, 1), pages)
        shown = matching[(page - 1) * PAGE : page * PAGE]
        rows = _rows(connection, settings, shown, found)
    general = todos.of_workers(alive, statuses, redis=settings.redis_url is not None)
    return Overview(
        at=at,
        workers=alive,
        states=dict(Counter(status.state.value for status in statuses)),
        todo=(*general, *(check for status in statuses for check in found[status.name])),
        total=len(matching),
        page=page,
        pages=pages,
        pipelines=rows,
    )


def _rows(
    connection: Connection, settings: Settings, shown: Sequence[PipelineStatus], found: dict[str, list[Check]]
) -> tuple[Row, ...]:
    spent = overview.today(connection)
    history = overview.lags(connection, [status.name for status in shown], since=DAY, points=POINTS)
    declared = {pipeline.name: pipeline for pipeline in pipelines.all_pipelines(connection)}
    rows = []
    for status in shown:
        lags = tuple(history.get(status.name, ()))
        today = cost(declared.get(status.name), spent.get(status.name, Today()), settings)
        rows.append(Row(status, today, worst(lags), lags, tuple(found[status.name])))
    return tuple(rows)


def cost(pipeline: Pipeline | None, today: Today, settings: Settings) -> Spent:
    """Return what was spent, in US dollars as well if the price is or was known."""
    price = None if pipeline is None else price_for(pipeline, settings)
    # tokens without a price were bought before it was known
    known = today.usd > 0 or price == 0 or (price is not None and not today.tokens)
    return Spent(today.requests, today.tokens, today.inputs, today.usd if known else None)


def worst(lags: Sequence[Lag]) -> timedelta | None:
    """Return the longest lag."""
    return max((each.lag for each in lags if each.lag is not None), default=None)
