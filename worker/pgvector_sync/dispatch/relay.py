"""The relay: a thread in the worker's parent process that drains the outbox and rings the doorbells.

One worker of all is elected by a short Redis lock; two at once would do no harm. It polls every ~100 ms rather
than LISTEN: NOTIFY's commit-time lock would be the application's cost, and it doesn't pass PgBouncer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
from celery import bootsteps, signals
from celery.exceptions import WorkerShutdown
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from pgvector_sync.capture.drain import Drain
from pgvector_sync.database import INSTALL_HINT, OUTAGE, Database
from pgvector_sync.dispatch.broker import check_redis
from pgvector_sync.dispatch.doorbell import Doorbell, Queues, bulk_share, fair_share, open_doorbell, queues_of
from pgvector_sync.dispatch.messages import TASKS
from pgvector_sync.dispatch.presence import Presence
from pgvector_sync.engine import watch
from pgvector_sync.errors import ConfigError
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.model import Lane
from pgvector_sync.runtime.bootstrap import close_process_runtime, open_database
from pgvector_sync.runtime.keeper import Expiry, bury
from pgvector_sync.settings import Settings, limits, load_settings
from pgvector_sync.store import runs, work
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import RelayElected, RelayFailed, RelayLost
from pgvector_sync.telemetry.events.process import (
    DatabaseUnavailable,
    RedisUnavailable,
    SchemaMissing,
    WorkerMisconfigured,
    WorkerReady,
)

OFFICE = "relay"
ELECTED_FOR = timedelta(seconds=2)
ANNOUNCE_EVERY = timedelta(seconds=1)
AFTER_AN_ERROR = timedelta(seconds=1)
DRAIN_FOR = timedelta(milliseconds=500)


def look(database: Database, drain: Drain, doorbell: Doorbell, expiry: Expiry) -> int:
    """One look: drain, then ring for what is due; returns events moved. The relay and the beat's tick share it."""
    moved = drain(until=time.monotonic() + DRAIN_FOR.total_seconds())
    reach(Failpoint.RELAY_DRAINED)
    expiry()
    limit = doorbell.settings.in_flight_batches * doorbell.settings.bulk_batch_size
    with database.transaction(read_only=True) as connection:
        found = work.due(connection, limit=limit)
        waiting = runs.due_runs(connection)
    due = [item for item in found if item.rows]
    others = len({item.pipeline for item in found}) - 1
    pipelines = len({item.pipeline for item in due})
    slots = doorbell.slots() if due else 0
    for item in due:
        share = fair_share(slots, others if item.remote else 0, most=doorbell.settings.in_flight_batches)
        if item.remote and item.lane is Lane.BULK:
            share = bulk_share(share, slots)
        doorbell.ring(item, pipelines=pipelines, share=share)
    for run_id, kind, _ in waiting:
        doorbell.ring_run(run_id, kind)
    return moved


class Watching:
    """The schema watch, now and then: most polls don't even ask whether it is time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next_at = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + watch.EVERY.total_seconds()
            watch.look(self._database)


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
            drain = Drain(database, settings.drain_rows, settings.burst_rows)
            watching = Watching(database)
            presence = Presence(database, self._worker, self._slots)
            expiry = Expiry(database, settings)
            while not self._stopping.is_set():
                pause = settings.poll
                presence.note()
                try:
                    self._bury(database)
                    self._announce()
                    if self._is_elected():
                        moved = look(database, drain, self._doorbell, expiry)
                        watching()
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
            bury(database, pid)
            self._dead.discard(pid)

    def _announce(self) -> None:
        if time.monotonic() - self._announced_at > ANNOUNCE_EVERY.total_seconds():
            self._doorbell.announce(self._worker, self._slots)
            self._announced_at = time.monotonic()

    def _is_elected(self) -> bool:
        mine = self._doorbell.take(OFFICE, self._me, ELECTED_FOR)
        if mine != self._elected:
            emit(RelayElected() if mine else RelayLost())
            self._elected = mine
        return mine

    def _step_down(self) -> None:
        """Lets the next relay start at once."""
        try:
            self._doorbell.withdraw(self._worker, self._slots)
            if self._elected:
                self._doorbell.let_go(OFFICE, self._me)
        except RedisError:
            return  # the lock runs out by itself


def _log_ready(sender: Any, **_: Any) -> None:
    emit(WorkerReady(hostname=sender.hostname))


def _close_runtime(**_: Any) -> None:
    close_process_runtime()


class RelayStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Runs the relay in the parent, after the pool has forked: its connections are never a child's."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._relay: Relay | None = None
        served = set(parent.app.amqp.queues.consume_from)
        queues = queues_of(parent.app) or Queues()
        self._is_ours = not served.isdisjoint(queues.all)
        """Else it is an application's worker that has nothing to do with us."""
        self._serves_a_lane = not served.isdisjoint(map(queues.of, Lane))
        if self._is_ours:
            # the SDK takes a second to import: once in the parent, not in each child's first batch
            import pgvector_sync.embedding.openai_compatible  # noqa: F401

            signals.worker_ready.connect(_log_ready)
            signals.worker_process_shutdown.connect(_close_runtime)

    def start(self, parent: Any) -> None:
        if not self._is_ours:
            return
        try:
            settings = load_settings()
            settings.database()
            limits.require(settings)
            check_redis(settings)
            doorbell = open_doorbell(parent.app)
        except ConfigError as error:
            emit(WorkerMisconfigured(error=Words(str(error)), hint=Words(error.hint) if error.hint else None))
            raise WorkerShutdown(error.exit_code) from None
        self._limit_tasks(parent.app, settings)
        slots = int(parent.concurrency) if self._serves_a_lane else 0
        pool = parent.pool

        def children() -> Iterable[int]:
            # prefork has children; in a threads pool the leases are this process's own
            return tuple(pool.info.get("processes", ()))

        self._relay = Relay(doorbell, parent.hostname, slots, children)
        self._relay.start()

    def _limit_tasks(self, app: Any, settings: Settings) -> None:
        """By our settings, whatever limits the app or a command line has: a batch must end by its deadline."""
        for name in TASKS:
            app.tasks[name].soft_time_limit = limits.soft_task_limit(settings).total_seconds()
            app.tasks[name].time_limit = limits.hard_task_limit(settings).total_seconds()

    def stop(self, _parent: Any) -> None:
        if self._relay is not None:
            self._relay.stop()
            self._relay = None

    def terminate(self, parent: Any) -> None:
        self.stop(parent)
