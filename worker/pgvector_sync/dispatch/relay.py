"""The relay: a thread in the worker's parent process that drains the outbox and rings the doorbells.

One worker of all is elected by a short Redis lock; two at once would do no harm. It polls every ~100 ms rather
than LISTEN: NOTIFY's commit-time lock would be the application's cost, and it doesn't pass PgBouncer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import uuid4

import psycopg
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from pgvector_sync.database import INSTALL_HINT, OUTAGE, Database
from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.dispatch.ringing import take_turn
from pgvector_sync.engine import jobs
from pgvector_sync.engine.presence import Presence
from pgvector_sync.engine.turn import Engine
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.runtime.keeper import lose_leases_of_child
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import RelayElected, RelayFailed, RelayLost
from pgvector_sync.telemetry.events.process import DatabaseUnavailable, RedisUnavailable, SchemaMissing

OFFICE = "relay"
ELECTED_FOR = timedelta(seconds=2)
ANNOUNCE_EVERY = timedelta(seconds=1)
AFTER_AN_ERROR = timedelta(seconds=1)
DRAIN_FOR = timedelta(milliseconds=500)


class Relay(threading.Thread):
    """Polls until `stop`. Errors are said and slept over: the database and Redis come back, or beat takes over."""

    def __init__(
        self,
        doorbell: Doorbell,
        worker: str,
        slots: int,
        children: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        """`worker` is its name, the same after a restart; `slots` how many batches it can carry at once.

        `children` gives the process ids of the living children that carry them.
        """
        super().__init__(name="pgvector-sync-relay", daemon=True)
        self._doorbell = doorbell
        self._worker, self._slots = worker, slots
        self._children = children
        self._living: set[int] = set()
        self._dead: set[int] = set()
        self._announced_at = 0.0
        self._me = uuid4().hex
        self._stopping = threading.Event()
        self._elected = False

    def stop(self) -> None:
        """Asks the thread to end, and waits for its current look."""
        self._stopping.set()
        self.join(timeout=10)

    def run(self) -> None:
        settings = self._doorbell.settings
        with open_database(settings, max_connections=1, working=True) as database:
            engine = Engine(database, settings, jobs.URGENT, drain_for=DRAIN_FOR)
            presence = Presence(database, self._worker, self._slots)
            while not self._stopping.is_set():
                pause = settings.poll
                presence.note()
                try:
                    self._bury(database)
                    self._announce()
                    if self._is_elected():
                        moved = take_turn(engine, self._doorbell)
                        if moved >= settings.drain_rows:
                            continue
                except OUTAGE as error:
                    emit(DatabaseUnavailable(sqlstate=error.sqlstate))
                    pause = AFTER_AN_ERROR
                except psycopg.errors.UndefinedTable:
                    emit(SchemaMissing(hint=Words(INSTALL_HINT)))
                    pause = AFTER_AN_ERROR * 5
                except (RedisError, BrokerError, OSError) as error:
                    emit(RedisUnavailable(error=type(error)))
                    pause = AFTER_AN_ERROR
                except Exception as error:  # noqa: BLE001
                    emit(RelayFailed(error=error))  # a bug of ours must not silence the doorbells
                    pause = AFTER_AN_ERROR
                self._stopping.wait(pause.total_seconds())
            presence.leave()
        self._step_down()

    def _bury(self, database: Database) -> None:
        """A child that has died holds nothing any more; the pool has replaced it by now."""
        living = set(self._children())
        self._dead |= self._living - living
        self._living = living
        for pid in tuple(self._dead):
            lose_leases_of_child(database, pid)
            self._dead.discard(pid)

    def _announce(self) -> None:
        if time.monotonic() - self._announced_at > ANNOUNCE_EVERY.total_seconds():
            self._doorbell.slots.announce(self._worker, self._slots)
            self._announced_at = time.monotonic()

    def _is_elected(self) -> bool:
        mine = self._doorbell.tokens.take(OFFICE, self._me, ELECTED_FOR)
        if mine != self._elected:
            emit(RelayElected() if mine else RelayLost())
            self._elected = mine
        return mine

    def _step_down(self) -> None:
        """Lets the next relay start at once."""
        try:
            self._doorbell.slots.withdraw(self._worker, self._slots)
            if self._elected:
                self._doorbell.tokens.let_go(OFFICE, self._me)
        except RedisError:
            return  # the lock runs out by itself
