"""What the page of one pipeline shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from pgvector_sync.database import LOCK_CONFLICT, Connection, Database
from pgvector_sync.model import Pipeline
from pgvector_sync.observe import todo as todos
from pgvector_sync.observe.doctor.index import judge_indexes
from pgvector_sync.observe.finding import Check
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.overview import Spent, cost
from pgvector_sync.observe.status import PipelineStatus, statuses
from pgvector_sync.settings import Settings
from pgvector_sync.store import catalog, drift, history, overview, pipelines, runs, sizes, target_table, workers
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.history import Sample
from pgvector_sync.store.overview import DeadClass, Today
from pgvector_sync.store.runs import Run

POINTS = 96
"""The points of a chart."""
MAX_RUNS = 10
MAX_FIGURES = 7
MAX_KEYS = 5
"""Keys per class of dead letters."""


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run and how far it is."""

    run: Run
    share: float | None
    """From 0 to 1; None if the number of rows isn't known."""
    left: timedelta | None
    """The time until the end at the run's rate so far; None if it can't be told."""


@dataclass(frozen=True, slots=True)
class TargetIndex:
    """An index of the target."""

    name: str
    method: str
    operator_class: str
    valid: bool
    building: bool
    bytes: int | None
    """None while another session locks the index."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What vectors are made with, as it was declared."""

    provider: str
    dialect: str
    host: str | None
    """The provider's host; None if the dialect has none or the environment sets it."""
    model: str
    dimensions: int
    metric: str
    vector_type: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything about one pipeline."""

    at: datetime
    status: PipelineStatus
    todo: tuple[Check, ...]
    today: Spent
    facts: Facts
    history: tuple[Sample, ...]
    runs: tuple[ShownRun, ...]
    dead_letters: tuple[DeadClass, ...]
    drift: tuple[Figures, ...]
    """What the last reconciliations found, newest first."""
    indexes: tuple[TargetIndex, ...]


def read_detail(database: Database, settings: Settings, name: str, *, since: timedelta) -> Detail:
    """Read everything about one pipeline. Raises Refused if there is none with this name."""
    with database.transaction(read_only=True) as connection:
        pipeline = pipelines.require_pipeline(connection, name)
        at, alive = overview.now(connection), workers.alive(connection)
        [status] = statuses(connection, name)
        figures = tuple(drift.trend(connection, name, limit=MAX_FIGURES))
        in_bulk = bool(runs.running(connection, name))
        latest = figures[0] if figures else None
        found = todos.of_pipeline(status, latest, workers=alive.slots > 0, in_bulk=in_bulk)
        found = todos.of_workers(alive, [status], redis=settings.redis_url is not None) + found
        today = overview.today(connection, name).get(name, Today())
        listed = runs.list_runs(connection, pipeline=name, limit=MAX_RUNS)
        letters = overview.dead_classes(connection, pipeline, keys=MAX_KEYS) if status.dead else []
        samples = history.lately(connection, name, since=since, points=POINTS)
        oid = catalog.find_relation(connection, pipeline.target_schema, pipeline.target_table)
        indexes = [] if oid is None else target_table.indexes(connection, oid)
        if oid is not None:
            rows = sizes.estimated_rows(connection, oid)
            found += _of_indexes(pipeline, indexes, rows, database.vector_schema)
    bytes_of = {} if oid is None else _index_sizes(database, oid)
    return Detail(
        at=at,
        status=status,
        todo=tuple(found),
        today=cost(pipeline, today, settings),
        facts=_facts(pipeline),
        history=tuple(samples),
        runs=tuple(_shown(run, at) for run in listed),
        dead_letters=tuple(letters),
        drift=figures,
        indexes=tuple(
            TargetIndex(
                index.name,
                index.method,
                index.operator_class,
                index.valid,
                index.building,
                bytes_of.get(index.name),
            )
            for index in indexes
        ),
    )


def _of_indexes(
    pipeline: Pipeline, indexes: list[target_table.Index], rows: int, vector_schema: str
) -> list[Check]:
    findings = judge_indexes(pipeline, indexes, rows, vector_schema)
    return [
        Check("index", finding.level, finding.seen, finding.advice, pipeline.name)
        for finding in findings
        if finding.level is not Level.OK
    ]


def _index_sizes(database: Database, oid: int) -> dict[str, int]:
    """Read them in a transaction of their own, since this can meet the lock of another session."""
    try:
        with database.transaction(read_only=True) as connection:
            return overview.index_sizes(connection, oid)
    except LOCK_CONFLICT:
        return {}


def _facts(pipeline: Pipeline) -> Facts:
    provider, options = pipeline.provider, pipeline.options
    return Facts(
        provider=provider.name,
        dialect=provider.dialect,
        host=host_of(provider.base_url),
        model=pipeline.spec.model,
        dimensions=pipeline.spec.dimensions,
        metric=options.metric.value,
        vector_type=options.vector_type.value,
        requests_per_minute=provider.requests_per_minute,
        tokens_per_minute=provider.tokens_per_minute,
        tokens_per_day=options.tokens_per_day,
    )


def host_of(address: str | None) -> str | None:
    """Return the host of a URL without user, password and path, which may be secrets."""
    try:
        parts = urlsplit(address or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.hostname}{port}" if parts.hostname else None


def _shown(run: Run, now: datetime) -> ShownRun:
    """Return how far a run is, and how long it will take at the speed that it has had."""
    if run.state == "finished":
        return ShownRun(run, 1.0, None)
    far = run.progress(now)
    return ShownRun(run, far.share, far.left() if run.running else None)


def read_runs(database: Database, name: str | None, *, limit: int) -> tuple[datetime, list[ShownRun]]:
    """Read the runs of all pipelines or of one, newest first, and the time. Raises Refused for an unknown one."""
    with database.transaction(read_only=True) as connection:
        _require(connection, name)
        at = overview.now(connection)
        return at, [_shown(run, at) for run in runs.list_runs(connection, pipeline=name, limit=limit)]


def _require(connection: Connection, name: str | None) -> None:
    if name is not None:
        pipelines.require_pipeline(connection, name)
