"""Stores the vectors of some queries, to measure recall with, beside the searches and never as part of one.

A query is only put into a small buffer of the process. A timer stores the buffer half a minute later, over a
connection of its own, which it closes. What can't be stored is dropped.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta

import psycopg

from pgvector_sync.database import begin, connect, limit_statements
from pgvector_sync.errors import ConfigError
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.search import QueryVector
from pgvector_sync.settings import Settings
from pgvector_sync.store import query_samples
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.search import QuerySamplesDropped, QuerySamplingOff

FLUSH_AFTER = timedelta(seconds=30)
"""How long after a query the buffer is stored."""
BUFFERED = 20
"""The maximum number of queries per flush, a uniform sample if there were more."""
TIME_LIMIT = timedelta(seconds=3)
"""The time limit of connecting, and of the statement."""
CLOSE_WAIT = timedelta(seconds=1)
"""How long `close` waits for the last flush."""
GRANT = (
    "GRANT INSERT (pipeline_id, spec_version, model, vector) ON pgvector_sync.query_sample TO …; "
    "or PGVECTOR_SYNC_SAMPLE_QUERIES=0"
)
_USELESS_TO_RETRY = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.ReadOnlySqlTransaction,
)


class QuerySampler:
    """Samples the queries of one process. Threads may share it. `offer` neither waits nor raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._share = settings.sample_queries
        self._buffer: list[QueryVector] = []
        self._offered = 0
        """How many queries were drawn since the last flush, those that aren't in the buffer included."""
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        if self._share and settings.database_url is None:
            self._stop(None, "DATABASE_URL isn't set, and samples are never stored over an application's pool")

    def offer(self, query: QueryVector) -> None:
        """Take a query into the sample, or not."""
        if not self._share or random.random() >= self._share:  # noqa: S311  nothing secret depends on it
            return
        with self._lock:
            self._offered += 1
            if len(self._buffer) < BUFFERED:
                self._buffer.append(query)
            elif (place := random.randrange(self._offered)) < BUFFERED:  # noqa: S311
                self._buffer[place] = query
            if self._timer is None:
                self._timer = self._start(FLUSH_AFTER)

    def close(self) -> None:
        """Store what is in the buffer, or give up after a second."""
        self._share = 0.0
        until = Deadline.after(CLOSE_WAIT)
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join(until.left.total_seconds())  # it may be storing
        with self._lock:
            last = self._start(timedelta(0)) if self._buffer else None
        if last is not None:
            last.join(until.left.total_seconds())

    def _start(self, after: timedelta) -> threading.Timer | None:
        """Return None if there can't be another thread, as at the end of the process."""
        timer = threading.Timer(after.total_seconds(), self._flush)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return None
        return timer

    def _flush(self) -> None:
        with self._lock:
            queries, self._buffer, self._offered = self._buffer, [], 0
        if queries:
            self._store(queries)
        with self._lock:
            self._timer = self._start(FLUSH_AFTER) if self._buffer and self._share else None

    def _store(self, queries: Sequence[QueryVector]) -> None:
        try:
            with (
                closing(connect(self._settings.database(), timeout=TIME_LIMIT)) as connection,
                connection.silence_limited_to(TIME_LIMIT),
                begin(connection, lock_timeout=self._settings.lock_timeout),
            ):
                limit_statements(connection, TIME_LIMIT)
                query_samples.keep(connection, queries)
        except _USELESS_TO_RETRY as error:
            self._stop(error.sqlstate, "this role may not store vectors of queries here")
        except (psycopg.Error, ConfigError, OSError) as error:
            sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
            emit(QuerySamplesDropped(queries=len(queries), sqlstate=sqlstate))

    def _stop(self, sqlstate: str | None, reason: str) -> None:
        self._share = 0.0
        emit(QuerySamplingOff(reason=Words(reason), hint=Words(GRANT), sqlstate=sqlstate))
