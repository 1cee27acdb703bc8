"""A sink that keeps events, so that a test can wait for one instead of sleeping."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pgvector_sync.telemetry import add_sink, remove_sink
from pgvector_sync.telemetry.event import Event

E = TypeVar("E", bound=Event)


class Collected:
    """Events of this process, in the order in which they were emitted."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition(threading.RLock())

    def __call__(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def of(self, kind: type[E]) -> list[E]:
        with self._changed:
            return [event for event in self._events if isinstance(event, kind)]

    def wait_for(self, kind: type[E], timeout: float = 10.0) -> E:
        """The first event of this class, as soon as there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self.of(kind), timeout)
            events = self.of(kind)
        assert events, f"no {kind.__name__} within {timeout:g} s; emitted: {self._events}"
        return events[0]


@contextmanager
def collected() -> Iterator[Collected]:
    """Collects the events emitted inside the block."""
    sink = Collected()
    add_sink(sink)
    try:
        yield sink
    finally:
        remove_sink(sink)
