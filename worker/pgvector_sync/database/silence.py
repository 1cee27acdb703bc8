"""Connections that give up on a server that has gone silent (docs/decisions/0007).

After a fail-over, or behind a pooler whose server is gone, a statement may never be answered, and no timeout of
the kernel tells: there is somebody who acknowledges our packets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import Row

CHECK = timedelta(seconds=5)
"""What the check of a connection that comes out of the pool may take: it asks for nothing."""
CANCEL = timedelta(seconds=5)
"""What a request to cancel may take."""
BEFORE_CLOSING = timedelta(milliseconds=300)
"""How long it is waited for; it goes on by itself."""
T = TypeVar("T")


class ListeningConnection(psycopg.Connection[Row]):
    """Waits for an answer no longer than `silence` without a byte of it; None: for ever."""

    silence: timedelta | None = None
    taught: object = None
    """Which vector types it was taught, see `Database.refresh_vectors`."""

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        """Raises psycopg.OperationalError, with the connection closed, where the server has gone silent."""
        if self.silence is not None:
            gen = self._while_heard(gen, self.silence)
        return super().wait(gen, *args, **options)

    def _while_heard(self, gen: PQGen[T], silence: timedelta) -> PQGen[T]:
        """`gen`, which psycopg resumes with nothing ten times a second while nothing comes."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > silence.total_seconds():
                    self._cancel_without_waiting()
                    self.pgconn.finish()  # no goodbye: it would not arrive either
                    raise psycopg.OperationalError(f"the server has been silent for {silence.total_seconds():g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _cancel_without_waiting(self) -> None:
        """A server that works in silence would go on with the statement, and keep its connection, for no one.

        The request goes by a connection of its own, which may hang as this one does: in a thread of its own.
        """

        def cancel() -> None:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL.total_seconds())

        thread = Thread(target=cancel, name="cancel", daemon=True)
        thread.start()
        thread.join(BEFORE_CLOSING.total_seconds())

    @contextmanager
    def waiting_at_most(self, silence: timedelta | None) -> Iterator[None]:
        """Another patience for a while."""
        before, self.silence = self.silence, silence
        try:
            yield
        finally:
            self.silence = before


def check_connection(connection: ListeningConnection[Any]) -> None:
    """For the pool: raises psycopg.OperationalError where the connection is of no use any more."""
    with connection.waiting_at_most(CHECK):
        connection.execute("")
