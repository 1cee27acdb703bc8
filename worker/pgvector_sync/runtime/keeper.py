"""Keeps the leases of this process alive, and takes note of those that nobody keeps (docs/decisions/0011).

A lease is renewed by a thread of the process that holds it. One that isn't renewed is suspected, and lost some
seconds later: after an outage of the database, every living worker has had the time to renew its own.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.settings import Settings
from pgvector_sync.store import leases
from pgvector_sync.store.leases import Lease
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import ChildLeasesLost, KeeperFailed, LeasesLost, LeasesNotRenewed

AFTER_A_FAILURE = timedelta(seconds=1)
EXPIRE_EVERY = timedelta(seconds=1)

_FAMILY = f"{platform.node()}:{uuid4().hex[:8]}"
"""Made before a worker forks: its children have it from their parent, which so knows their leases."""


def holder(pid: int | None = None) -> str:
    """Names this process, or a child of it, in its leases."""
    return f"{_FAMILY}:{os.getpid() if pid is None else pid}"


def new_lease(settings: Settings, *, ends_after: timedelta | None = None) -> Lease:
    """A lease of this process, to be taken."""
    return Lease(uuid4(), holder(), settings.expires_after, ends_after or settings.ends_after)


@dataclass
class Keeper:
    """Renews what this process holds, all of it in one statement. Its thread starts with the first lease, and ends
    when there is none.
    """

    database: Database
    settings: Settings
    _kept: dict[UUID, float] = field(default_factory=dict)
    """Leases, and when they were last renewed (time.monotonic)."""
    _owed: dict[UUID, Callable[[Connection], object]] = field(default_factory=dict)
    """What a batch couldn't say when it ended, because the database was away."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, lease: UUID) -> Iterator[None]:
        """Renews a lease that was just taken until the block ends."""
        with self._lock:
            self._kept[lease] = time.monotonic()
            self._start()
        try:
            yield
        finally:
            with self._lock:
                if lease not in self._owed:
                    self._kept.pop(lease, None)

    def say_later(self, lease: UUID, action: Callable[[Connection], object]) -> None:
        """Does `action` as soon as the database is back, and keeps the lease until then."""
        with self._lock:
            self._owed[lease] = action
            self._kept.setdefault(lease, 0.0)
            self._start()
        self._wake.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pgvector-sync-keeper", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = self.settings.renew_every
        while True:
            self._wake.wait(pause.total_seconds())
            self._wake.clear()
            with self._lock:
                if not self._kept:
                    self._thread = None
                    return
            pause = self.settings.renew_every
            try:
                self._renew()
                self._say()
            except psycopg.errors.UndefinedTable:
                self._give_up()  # the schema was removed
            except psycopg.Error as error:
                if self.database.closed:
                    self._give_up()
                    continue
                emit(LeasesNotRenewed(sqlstate=error.sqlstate))
                pause = min(AFTER_A_FAILURE, pause)
            except Exception as error:  # noqa: BLE001
                emit(KeeperFailed(error=error))  # a bug of ours must not end every batch of this process

    def _renew(self) -> None:
        began = time.monotonic()
        young = began - self.settings.renew_every.total_seconds() / 2
        with self._lock:
            old = [lease for lease, renewed in self._kept.items() if renewed <= young]
        if not old:
            return
        with self.database.transaction(silence=self.settings.grace) as connection:
            renewed = leases.renew(connection, old, expires_after=self.settings.expires_after)
        with self._lock:
            for lease in set(old) & self._kept.keys():
                if lease in renewed:
                    self._kept[lease] = began
                elif lease not in self._owed:
                    del self._kept[lease]  # lost, or at its end: nothing renews it any more

    def _say(self) -> None:
        with self._lock:
            owed = dict(self._owed)
        for lease, action in owed.items():
            with self.database.transaction(silence=self.settings.grace) as connection:
                action(connection)
            with self._lock:
                self._owed.pop(lease, None)
                self._kept.pop(lease, None)

    def _give_up(self) -> None:
        with self._lock:
            self._kept.clear()
            self._owed.clear()


@dataclass
class Expiry:
    """Looks for leases that nobody renews, once a second. Relay, tick and `sync` have one."""

    database: Database
    settings: Settings
    _looked_at: float = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < EXPIRE_EVERY.total_seconds():
            return
        self._looked_at = now
        grace = self.settings.grace
        with self.database.transaction(read_only=True) as connection:
            if not leases.silent(connection, grace=grace):
                return
        lost = self.database.retry_on_lock_conflict(lambda connection: leases.expire(connection, grace=grace))
        if lost:
            emit(LeasesLost(leases=lost))


def bury(database: Database, pid: int) -> None:
    """Gives the rows of a dead child to others at once."""
    lost = database.retry_on_lock_conflict(lambda connection: leases.lose(connection, holder(pid)))
    if lost:
        emit(ChildLeasesLost(leases=lost, pid=pid))
