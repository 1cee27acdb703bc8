"""Looks again and again in a thread, so that a database that doesn't answer freezes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

import psycopg

from pgvector_sync.database import Connection, begin, connect
from pgvector_sync.database.explain import explain
from pgvector_sync.database.session import find_vectors
from pgvector_sync.errors import SyncError
from pgvector_sync.observe.live import Look, look
from pgvector_sync.observe.status import Counting
from pgvector_sync.settings import Settings
from pgvector_sync.store.migrations import check_schema


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the database: what was seen, or why there is none."""

    look: Look | None
    trouble: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Reader:
    """Reads on one connection, which it opens again after an outage."""

    def __init__(self, settings: Settings, pipeline: str | None, *, exact: bool) -> None:
        self._settings, self._pipeline, self._exact = settings, pipeline, exact
        self._connection: Connection | None = None
        self._counting: Counting | None = None

    def read(self) -> Look:
        """Read once. Raises SyncError and psycopg.Error."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        with begin(self._connection, lock_timeout=self._settings.lock_timeout, read_only=True) as connection:
            return look(
                connection,
                self._pipeline,
                redis=self._settings.redis_url is not None,
                counting=self._counting,
            )

    def try_to_read(self) -> Reading:
        """Read once, and return an error in words, for a person who watches."""
        try:
            return Reading(self.read())
        except SyncError as error:
            return Reading(None, f"{error}{f' ({error.hint})' if error.hint else ''}")
        except psycopg.Error as error:
            what, _ = explain(error)
            return Reading(None, what)

    def _connect(self) -> Connection:
        connection = connect(self._settings.database())
        try:
            with begin(connection, lock_timeout=self._settings.lock_timeout, read_only=True):
                check_schema(connection)
                vectors = find_vectors(connection) if self._exact else None
                if vectors is not None:
                    self._counting = Counting(self._settings.text_limit_bytes, vectors.schema)
        except BaseException:
            connection.close()
            raise
        return connection


class Readings(threading.Thread):
    """Puts a reading per interval into `queue`, and then calls `on_reading`."""

    def __init__(
        self, reader: Reader, every: timedelta, *, on_reading: Callable[[], object] = lambda: None
    ) -> None:
        # a daemon, since it may wait for a silent server when the command ends
        super().__init__(name="pgvector-sync-watch", daemon=True)
        self.queue: SimpleQueue[Reading] = SimpleQueue()
        self._reader, self._every, self._on_reading = reader, every, on_reading
        self._ended = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(max(0.0, started + self._every.total_seconds() - time.monotonic())):
            started = time.monotonic()
            self.queue.put(self._reader.try_to_read())
            self._on_reading()

    def end(self) -> None:
        """Stop after the current reading, without waiting for it."""
        self._ended.set()
