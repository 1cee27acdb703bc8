"""Renew the leases of this process, and expire leases that are no longer renewed (docs/decisions/0011).

A lease is renewed by a thread of the process that holds it. A lease that isn't renewed is suspected first and lost
some seconds later, so that after an outage of the database every living worker has time to renew its own.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg

from pgvector_sync.database import Connection, Database
from pgvector_sync.settings import Settings
from pgvector_sync.store import leases
from pgvector_sync.store.leases import Lease
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.batch import KeeperFailed, LeasesLost, LeasesNotRenewed, ProcessLeasesLost

RETRY_AFTER = timedelta(seconds=1)

_FAMILY = f"{platform.node()}:{uuid4().hex[:8]}"
"""Names a worker and its children, which inherit it, so that the parent knows its children's leases."""


def holder(pid: int | None = None) -> str:
    """Return the name of this process, or of its child `pid`, as the holder of leases."""
    return f"{_FAMILY}:{os.getpid() if pid is None else pid}"


def new_lease(settings: Settings, *, ends_after: timedelta | None = None) -> Lease:
    """Return a new lease for this process, which isn't stored yet."""
    return Lease(uuid4(), holder(), settings.expires_after, ends_after or settings.ends_after)


@dataclass
class Keeper:
    """Renews all leases of this process in one statement. Its thread runs while there is a lease."""

    database: Database
    settings: Settings
    _kept: dict[UUID, float] = field(default_factory=dict)
    """Time of the last renewal per lease (`time.monotonic()`)."""
    _postponed: dict[UUID, Callable[[Connection], object]] = field(default_factory=dict)
    """Per lease, the last transaction of a batch or run that ended while the database was away."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, lease: UUID) -> Iterator[None]:
        """Renew a lease, which was just taken, until the block ends."""
        with self._lock:
            self._kept[lease] = time.monotonic()
            self._start()
        try:
            yield
        finally:
            with self._lock:
                if lease not in self._postponed:
                    self._kept.pop(lease, None)

    def do_later(self, lease: UUID, action: Callable[[Connection], object]) -> None:
        """Call `action` in a transaction as soon as the database is back, and keep the lease until then."""
        context = copy_context()  # its lines are those of the batch
        with self._lock:
            self._postponed[lease] = lambda connection: context.run(action, connection)
            self._kept.setdefault(lease, 0.0)
            self._start()
        self._wake.set()

    def _start(self) -> None:
        if self._thread is None:
            # In an empty context: some builds of Python copy that of the batch which happens to start the thread.
            self._thread = threading.Thread(
                target=Context().run, args=(self._run,), name="pgvector-sync-keeper", daemon=True
            )
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
                self._do_postponed()
            except psycopg.errors.UndefinedTable:
                self._give_up()  # the schema was removed
            except psycopg.Error as error:
                if self.database.closed:
                    self._give_up()
                    continue
                emit(LeasesNotRenewed(sqlstate=error.sqlstate))
                pause = min(RETRY_AFTER, pause)
            except Exception as error:  # noqa: BLE001
                emit(KeeperFailed(error=error))  # a bug must not end every batch of this process

    def _renew(self) -> None:
        started = time.monotonic()
        recent = started - self.settings.renew_every.total_seconds() / 2
        with self._lock:
            old = [lease for lease, renewed in self._kept.items() if renewed <= recent]
        if not old:
            return
        with self.database.transaction(silence=self.settings.grace) as connection:
            renewed = leases.renew(connection, old, expires_after=self.settings.expires_after)
        with self._lock:
            for lease in set(old) & self._kept.keys():
                if lease in renewed:
                    self._kept[lease] = started
                elif lease not in self._postponed:
                    del self._kept[lease]  # lost, or too old to be renewed

    def _do_postponed(self) -> None:
        with self._lock:
            postponed = dict(self._postponed)
        for lease, action in postponed.items():
            with self.database.transaction(silence=self.settings.grace) as connection:
                action(connection)
            with self._lock:
                self._postponed.pop(lease, None)
                self._kept.pop(lease, None)

    def _give_up(self) -> None:
        with self._lock:
            self._kept.clear()
            self._postponed.clear()


def expire_leases(database: Database, settings: Settings) -> None:
    """Suspect leases that are no longer renewed, and lose those that were suspected before."""
    lost = database.retry_on_lock_conflict(lambda connection: leases.expire(connection, grace=settings.grace))
    if lost:
        emit(LeasesLost(leases=lost))


def lose_leases_of_process(database: Database, pid: int) -> None:
    """Release the rows of a process that is dead, or about to end, to other workers at once."""
    lost = database.retry_on_lock_conflict(lambda connection: leases.lose(connection, holder(pid)))
    if lost:
        emit(ProcessLeasesLost(leases=lost, pid=pid))
