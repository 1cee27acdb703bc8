"""Measure the recall of vector indexes, per `index.measure_every` of each pipeline and after each build.

A measurement takes minutes, so it runs in a thread with a connection of its own and holds up no other job, and no
batch of `sync`. If its process ends meanwhile, another process measures an hour later.
"""

from __future__ import annotations

import math
import threading
from datetime import timedelta

import psycopg

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Database
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.index.recall import RecallReport, RecallRequest, measure
from pgvector_sync.index.recall.statistics import least_queries
from pgvector_sync.model import Method, Pipeline
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines, query_samples, recall_history
from pgvector_sync.store.recall_history import Attempt, Measured, Measurement
from pgvector_sync.store.search import LEAST_EF_SEARCH
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import JobFailed
from pgvector_sync.telemetry.events.search import RecallMeasured, RecallNotMeasured

NAME = "measure_recall"
TIME_LIMIT = timedelta(minutes=5)
"""The time after which a measurement asks no further query."""
STATEMENT_LIMIT = timedelta(seconds=30)
QUERIES, MOST_QUERIES = 200, 1_000
LEAST_LOGGED = 50
"""With fewer real queries than this, vectors of rows are used."""
_thread: threading.Thread | None = None
_lock = threading.Lock()


def run_once(database: Database, settings: Settings) -> None:
    """Start a thread that measures what is due, unless this process is measuring."""
    global _thread  # noqa: PLW0603  one per process
    with _lock:
        if _thread is not None and _thread.is_alive():
            return
        attempt = _claim(database)
        if attempt is None:
            return
        arguments = database.conninfo, settings, attempt
        _thread = threading.Thread(target=_measure_all, args=arguments, name=NAME, daemon=True)
        _thread.start()


def _claim(database: Database) -> Attempt | None:
    with database.transaction(read_only=True) as connection:
        known = pipelines.all_pipelines(connection)
    if all(each.options.index.measure_every is None for each in known):
        return None
    with database.transaction() as connection:
        return recall_history.claim(connection, known)


def _measure_all(conninfo: str, settings: Settings, first: Attempt) -> None:
    attempt: Attempt | None = first
    try:
        with Database(conninfo, lock_timeout=settings.lock_timeout, max_connections=1) as database:
            while attempt is not None:
                _measure_one(database, settings, attempt)
                attempt = _claim(database)
    except (*LOCK_CONFLICT, *OUTAGE):
        return  # measured later
    except Exception as error:  # noqa: BLE001
        emit(JobFailed(job=NAME, error=error))


def _measure_one(database: Database, settings: Settings, attempt: Attempt) -> None:
    try:
        with database.transaction(read_only=True) as connection:
            pipeline = pipelines.require_pipeline(connection, attempt.pipeline)
            logged = query_samples.recent(connection, pipeline, limit=MOST_QUERIES)
        report = measure(database, settings, pipeline.name, _request(pipeline, logged))
    except (*LOCK_CONFLICT, *OUTAGE):
        raise
    except (Refused, DatabaseRefuses) as error:
        _end(database, attempt, str(error))
        return
    except psycopg.Error as error:
        _end(database, attempt, f"the database rejected a statement ({error.sqlstate})")
        return
    measurement = _measurement(report)
    stored = database.retry_on_lock_conflict(lambda each: recall_history.note(each, attempt, measurement))
    if not stored:
        _end(database, attempt, "the index was built again, or another process measured, meanwhile")
        return
    used = next(each for each in measurement.settings if each.value == measurement.used)
    emit(
        RecallMeasured(
            pipeline=attempt.pipeline, recall=used.recall, low=used.low, high=used.high, queries=used.queries
        )
    )


def _end(database: Database, attempt: Attempt, reason: str) -> None:
    database.retry_on_lock_conflict(lambda connection: recall_history.failed(connection, attempt, reason))
    emit(RecallNotMeasured(pipeline=attempt.pipeline, reason=Words(reason)))


def _request(pipeline: Pipeline, logged: list[list[float]]) -> RecallRequest:
    target = pipeline.options.index.recall
    needed = MOST_QUERIES if target >= 1 else math.ceil(1.5 * least_queries(target))
    queries = min(MOST_QUERIES, max(QUERIES, needed))
    return RecallRequest(
        queries=queries,
        vectors=logged[:queries] if len(logged) >= LEAST_LOGGED else None,
        source="logged",
        sweep=True,
        iterative=("relaxed_order",),  # as `search` scans
        statement_timeout=STATEMENT_LIMIT,
        time_limit=TIME_LIMIT,
    )


def _measurement(report: RecallReport) -> Measurement:
    hnsw = report.index.method is Method.HNSW
    least = LEAST_EF_SEARCH if hnsw else 1
    enough = None if report.smallest is None else report.smallest.value
    values = sorted(each.value for each in report.settings)
    return Measurement(
        index_name=report.index.name,
        method=report.index.method,
        setting=report.settings[0].name,
        k=report.k,
        source=report.source_of_queries,
        target=report.target,
        rows=report.rows,
        settings=[
            Measured(each.value, each.queries, each.recall_mean, each.low, each.high, each.p5)
            for each in report.settings
        ],
        default=_at_least(values, least),
        used=_at_least(values, max(least, enough or least)),
        enough=enough,
    )


def _at_least(values: list[int], least: int) -> int:
    """Return the smallest value that isn't below `least`, or the largest one."""
    return next((value for value in values if value >= least), values[-1])


JOB = Job(NAME, timedelta(minutes=5), run_once)
