"""Connections that give up on a silent server (docs/decisions/0007).

After a fail-over, or behind a pooler whose server is gone, a statement may never be answered. No timeout of the
kernel notices that, because another host still acknowledges our packets.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import Row

CHECK_TIMEOUT = timedelta(seconds=5)
"""The time limit of the check, an empty statement, of a connection taken from the pool."""
FRESH_FOR = timedelta(seconds=1)
"""How long after its last answer a connection taken from the pool isn't checked by a statement."""
CANCEL_TIMEOUT = timedelta(seconds=5)
"""The time limit of a cancel request."""
CANCEL_WAIT = timedelta(milliseconds=300)
"""How long to wait for a cancel request, which continues in the background."""
T = TypeVar("T")


class ListeningConnection(psycopg.Connection[Row]):
    """A connection that gives up a statement if the server is silent for too long."""

    silence: timedelta | None = None
    """How long to wait without receiving a byte; None: no limit."""
    heard_at: float = float("-inf")
    """When the server last completed an answer (`time.monotonic()`)."""
    vector_types: object = None
    """The vector types registered with it, see `Database.refresh_vectors`."""

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        """Closes the connection and raises psycopg.OperationalError if the server is silent for too long."""
        if self.silence is not None:
            gen = self._while_heard(gen, self.silence)
        result = super().wait(gen, *args, **options)
        self.heard_at = time.monotonic()
        return result

    def _while_heard(self, gen: PQGen[T], silence: timedelta) -> PQGen[T]:
        """Wraps `gen`, which psycopg resumes ten times per second, without data, while the server is silent."""
        last_data = time.monotonic()
        try:
            wait_for = next(gen)
            while True:
                ready = yield wait_for
                if ready:
                    last_data = time.monotonic()
                elif time.monotonic() - last_data > silence.total_seconds():
                    self._cancel_without_waiting()
                    self.pgconn.finish()  # without a Terminate message, which would not arrive either
                    raise psycopg.OperationalError(f"the server has been silent for {silence.total_seconds():g} s")
                wait_for = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _cancel_without_waiting(self) -> None:
        """Cancels the statement, so that a server that is only slow doesn't continue it.

        The request uses a connection of its own, which may hang as this one does, so it runs in a thread.
        """

        def cancel() -> None:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_TIMEOUT.total_seconds())

        thread = Thread(target=cancel, name="cancel", daemon=True)
        thread.start()
        thread.join(CANCEL_WAIT.total_seconds())

    @contextmanager
    def silence_limited_to(self, silence: timedelta | None) -> Iterator[None]:
        """Replaces `silence` within the block."""
        before, self.silence = self.silence, silence
        try:
            yield
        finally:
            self.silence = before


def check_connection(connection: ListeningConnection[Any]) -> None:
    """The pool's check: raises psycopg.OperationalError if the connection is broken.

    A connection that was just used is only asked whether the server has closed it, which costs no round trip.
    """
    recent = time.monotonic() - connection.heard_at < FRESH_FOR.total_seconds()
    if recent and not connection.closed and _is_quiet(connection):
        return
    with connection.silence_limited_to(CHECK_TIMEOUT):
        connection.execute("")


def _is_quiet(connection: ListeningConnection[Any]) -> bool:
    """Whether nothing has arrived since the last answer. The end of the connection would have."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)
