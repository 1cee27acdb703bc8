"""How a worker lets others know that it is there: by a row in the database, which needs no Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import psycopg

from pgvector_sync.database import LOCK_CONFLICT, Database
from pgvector_sync.store import workers
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import PresenceFailed

EVERY = timedelta(seconds=5)
"""Several times before it counts as dead."""


class Presence:
    """Of one worker. It never fails: what the database refuses is logged, and tried again."""

    def __init__(self, database: Database, name: str, slots: int) -> None:
        self._database = database
        self._id, self._name, self._slots = uuid4(), name, slots
        self._next_at = 0.0

    def note(self) -> None:
        """Notes that we are alive, if it is time."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + EVERY.total_seconds()
        try:
            with self._database.transaction() as connection:
                workers.note_alive(connection, self._id, self._name, self._slots)
        except LOCK_CONFLICT:
            return
        except psycopg.Error as error:
            emit(PresenceFailed(sqlstate=error.sqlstate))

    def leave(self) -> None:
        """At the end; where it fails, the row grows old."""
        with suppress(psycopg.Error), self._database.transaction() as connection:
            workers.note_gone(connection, self._id)


@contextmanager
def present(database: Database, name: str, slots: int) -> Iterator[None]:
    """Notes it by a thread, for a process whose batches take longer than the silence of a dead one."""
    presence, ended = Presence(database, name, slots), threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            presence.note()
            ended.wait(EVERY.total_seconds())

    thread = threading.Thread(target=go_on, name="pgvector-sync-presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=EVERY.total_seconds())
        presence.leave()
