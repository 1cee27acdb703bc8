"""Who is told of an event: every sink, in turn. The log is the first; a metric or a trace is added beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.events.process import SinkFailed
from pgvector_sync.telemetry.log import write_line

Sink = Callable[[Event], None]
"""Called in the thread in which the event happened; it must be quick."""

_sinks: tuple[Sink, ...] = (write_line,)
_lock = threading.Lock()


def emit(event: Event) -> None:
    """Tell every sink. An added sink that fails is reported in the log and affects no caller and no other sink."""
    for sink in _sinks:
        try:
            sink(event)
        except Exception as error:  # what was done is done, and must not be paid for again
            if sink is write_line:
                raise
            write_line(SinkFailed(sink=getattr(sink, "__qualname__", type(sink).__name__), error=type(error)))


def add_sink(sink: Sink) -> None:
    """Tell `sink` of every event of this process from now on."""
    global _sinks  # noqa: PLW0603  replaced as a whole, so that `emit` needs no lock
    with _lock:
        _sinks = (*_sinks, sink)


def remove_sink(sink: Sink) -> None:
    """Undo `add_sink`."""
    global _sinks  # noqa: PLW0603
    with _lock:
        _sinks = tuple(other for other in _sinks if other is not sink)
