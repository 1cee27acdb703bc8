"""The relay: a thread in the worker's parent process that drains the outbox and rings the doorbells.

One of the workers is elected by a short-lived Redis lock; two at the same time would do no harm. The relay looks
for work (`engine.pace` says how often) instead of using LISTEN: NOTIFY takes a lock at commit, which would slow
down the application, and it doesn't work through PgBouncer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import timedelta
from uuid import uuid4

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from pgvector_sync.database import OUTAGE, Database
from pgvector_sync.database.explain import explain
from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.dispatch.ringing import take_turn
from pgvector_sync.engine import jobs
from pgvector_sync.engine.pace import Pace
from pgvector_sync.engine.presence import Presence
from pgvector_sync.engine.pulse import Listener, Pulse, turn_limit
from pgvector_sync.engine.turn import Engine
from pgvector_sync.runtime.admission import Admission
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.runtime.keeper import lose_leases_of_process
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.dispatch import RelayElected, RelayFailed, RelayLost
from pgvector_sync.telemetry.events.process import DatabaseUnavailable, RedisUnavailable

ROLE = "relay"
ELECTED_FOR = timedelta(seconds=2)
ELECT_EVERY = timedelta(milliseconds=500)
ANNOUNCE_EVERY = timedelta(seconds=1)
PAUSE_AFTER_ERROR = timedelta(seconds=1)
DRAIN_FOR = timedelta(milliseconds=500)


class Relay(threading.Thread):
    """Polls until `stop`.

    After an error it logs and pauses: the database or Redis recovers, or beat takes over.
    """

    def __init__(
        self,
        doorbell: Doorbell,
        worker: str,
        slots: int,
        children: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        """`worker` is a name that is stable across restarts, `slots` how many batches it can run at once.

        `children` returns the process ids of its living child processes.
        """
        super().__init__(name="pgvector-sync-relay", daemon=True)
        self._doorbell = doorbell
        self._worker, self._slots = worker, slots
        self._announced_as = f"{worker}#{os.getpid()}"
        """Two workers of one machine may have the same name."""
        self._children = children
        self._living: set[int] = set()
        self._dead: set[int] = set()
        self._announced_at = 0.0
        self._me = uuid4().hex
        self._stopping = threading.Event()
        self._elected = False
        self._elected_at = float("-inf")

    def stop(self) -> None:
        """Stop the thread, and wait for its current turn to end."""
        self._stopping.set()
        self.join(timeout=10)

    def run(self) -> None:
        settings = self._doorbell.settings
        with open_database(settings, max_connections=1, working=True) as database, ExitStack() as stack:
            engine = Engine(database, settings, jobs.URGENT, drain_for=DRAIN_FOR)
            pace = Pace(settings.poll)
            admission = Admission(database)
            presence = Presence(database, self._worker, self._slots)
            pulse = Pulse("worker", self._worker, limit=turn_limit(settings), needs=("Postgres", "Redis"))
            stack.enter_context(Listener(pulse))
            while not self._stopping.is_set():
                pause = settings.poll
                pulse.beat()
                try:
                    if refused := admission.refused():
                        pulse.judge("Postgres", str(refused))
                        self._stopping.wait(PAUSE_AFTER_ERROR.total_seconds())
                        continue  # without a sign of life: it embeds nothing
                    if presence.note():
                        pulse.judge("Postgres", presence.problem)
                    self._bury(database)
                    self._announce()
                    pulse.judge("Redis", None)
                    if self._is_elected():
                        signs = engine.look()
                        presence.note_look()
                        if pace.calls_for_a_turn(signs):
                            moved = take_turn(engine, self._doorbell, signs)
                            pace.turned(moved=moved > 0)
                            if moved >= settings.drain_rows:
                                continue
                        pause = pace.pause(waiting=signs.any)
                except OUTAGE as error:
                    pulse.judge("Postgres", explain(error)[0])
                    emit(DatabaseUnavailable(sqlstate=error.sqlstate))
                    pause = PAUSE_AFTER_ERROR
                except (RedisError, BrokerError, OSError) as error:
                    pulse.judge("Redis", f"out of reach ({type(error).__name__})")
                    emit(RedisUnavailable(error=type(error)))
                    pause = PAUSE_AFTER_ERROR
                except Exception as error:  # noqa: BLE001
                    emit(RelayFailed(error=error))  # a bug must not stop the doorbells
                    pause = PAUSE_AFTER_ERROR
                self._stopping.wait(pause.total_seconds())
            presence.leave()
        self._step_down()

    def _bury(self, database: Database) -> None:
        """Release the leases of children that have died. The pool has already replaced them."""
        living = set(self._children())
        self._dead |= self._living - living
        self._living = living
        for pid in tuple(self._dead):
            lose_leases_of_process(database, pid)
            self._dead.discard(pid)

    def _announce(self) -> None:
        if time.monotonic() - self._announced_at > ANNOUNCE_EVERY.total_seconds():
            self._doorbell.slots.announce(self._announced_as, self._slots)
            self._announced_at = time.monotonic()

    def _is_elected(self) -> bool:
        now = time.monotonic()
        if self._elected and now - self._elected_at < ELECT_EVERY.total_seconds():
            return True
        elected = self._doorbell.tokens.take(ROLE, self._me, ELECTED_FOR)
        self._elected_at = now
        if elected != self._elected:
            emit(RelayElected() if elected else RelayLost())
            self._elected = elected
        return elected

    def _step_down(self) -> None:
        """Let another worker's relay take over at once."""
        try:
            self._doorbell.slots.withdraw(self._announced_as, self._slots)
            if self._elected:
                self._doorbell.tokens.release(ROLE, self._me)
        except RedisError:
            return  # the lock expires
