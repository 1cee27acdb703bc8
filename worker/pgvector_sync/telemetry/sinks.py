"""Sends each event to every sink in turn. The log is the first; others, such as a metric, can be added."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.events.process import SinkFailed
from pgvector_sync.telemetry.log import write_line

Sink = Callable[[Event], None]
"""Called in the thread in which the event happened, so it must be fast."""

_sinks: tuple[Sink, ...] = (write_line,)
_lock = threading.Lock()


def emit(event: Event) -> None:
    """Send an event to every sink.

    If an added sink fails, this is logged and affects neither caller nor other sinks.
    """
    for sink in _sinks:
        try:
            sink(event)
        except Exception as error:  # the caller's work is done, and must not be repeated
            if sink is write_line:
                raise
            write_line(SinkFailed(sink=getattr(sink, "__qualname__", type(sink).__name__), error=type(error)))


def add_sink(sink: Sink) -> None:
    """Send every event of this process to `sink` from now on."""
    global _sinks  # noqa: PLW0603  a new tuple, so that `emit` needs no lock
    with _lock:
        _sinks = (*_sinks, sink)


def remove_sink(sink: Sink) -> None:
    """Undo `add_sink`."""
    global _sinks  # noqa: PLW0603
    with _lock:
        _sinks = tuple(other for other in _sinks if other is not sink)
