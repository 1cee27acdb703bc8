"""Show that a worker is alive by a row in the database, which doesn't depend on Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import psycopg

from pgvector_sync.database import LOCK_CONFLICT, Database
from pgvector_sync.database.explain import explain
from pgvector_sync.engine.pulse import Pulse
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.store import workers
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import PresenceFailed

EVERY = timedelta(seconds=5)
"""Interval of the notes, several times shorter than the silence after which a worker counts as dead."""


class Presence:
    """The row of one worker. Errors of the database are logged and never raised; the next note tries again."""

    def __init__(self, database: Database, name: str, slots: int) -> None:
        self._database = database
        self._id, self._name, self._slots = uuid4(), name, slots
        self._next: Deadline | None = None
        self.problem: str | None = "not reached yet"
        """Why the last note failed. None: it didn't."""
        self._relayed = False

    def note_look(self) -> None:
        """Note, with the next sign of life, that this process has looked for work."""
        self._relayed = True

    def note(self) -> bool:
        """Note that the worker is alive, unless it was noted within the last interval; return whether it tried."""
        if self._next is not None and not self._next.passed:
            return False
        self._next = Deadline.after(EVERY)
        try:
            with self._database.transaction() as connection:
                workers.note_alive(connection, self._id, self._name, self._slots, relayed=self._relayed)
            self._relayed = False
            self.problem = None
        except LOCK_CONFLICT:
            self.problem = None
        except psycopg.Error as error:
            self.problem = explain(error)[0]
            emit(PresenceFailed(sqlstate=error.sqlstate))
        return True

    def leave(self) -> None:
        """Remove the row when the worker ends. If that fails, the row expires."""
        with suppress(psycopg.Error), self._database.transaction() as connection:
            workers.note_gone(connection, self._id)


@contextmanager
def present(database: Database, name: str, slots: int, *, pulse: Pulse | None = None) -> Iterator[Presence]:
    """Note presence in a thread while the block runs, for a process whose batches block its main thread.

    `pulse` is told whether the database can be reached.
    """
    presence, ended = Presence(database, name, slots), threading.Event()

    def note_repeatedly() -> None:
        while not ended.is_set():
            presence.note()
            if pulse is not None:
                pulse.judge("Postgres", presence.problem)
            ended.wait(EVERY.total_seconds())

    thread = threading.Thread(target=note_repeatedly, name="pgvector-sync-presence", daemon=True)
    thread.start()
    try:
        yield presence
    finally:
        ended.set()
        thread.join(timeout=EVERY.total_seconds())
        presence.leave()
