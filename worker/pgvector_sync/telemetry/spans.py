"""Spans of OpenTelemetry: what was done when, and because of what.

    with span("write", {"pgvector_sync.rows": 12}) as current:
        current.set({"pgvector_sync.stored": 12})

Only the API is used (extra `otel`). Nothing is recorded until the process sets a tracer provider, which it may do
before or after a fork. Attributes are names, ids and counts: never a text, a key or the message of an exception
(G13). A tracer that fails is reported, and changes nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pgvector_sync.telemetry.events.process import SinkFailed
from pgvector_sync.telemetry.log import write_line

try:
    from opentelemetry import context, trace
except ImportError:  # without the extra `otel`
    INSTALLED = False
else:
    INSTALLED = True

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

Attributes = Mapping[str, str | int | float]
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
"""A span's address, in the form of https://www.w3.org/TR/trace-context."""


def tracing() -> bool:
    """Whether this process has a tracer provider."""
    return INSTALLED and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def now() -> int:
    """Return the time as spans take it."""
    return time.time_ns()


class Span:
    """A span that is current inside the block, so that others become its children. It may be recorded nowhere."""

    __slots__ = ("_start", "_started", "_token")

    def __init__(self, start: Callable[[], Any] | None = None) -> None:
        self._start = start
        self._started: Any = None
        self._token: Any = None

    def __enter__(self) -> Self:
        if self._start is not None:
            self._started = _guarded(self._start)
            if self._started is not None:
                self._token = _guarded(_enter, self._started)
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._started is None:
            return
        if error is not None:
            _guarded(_fail, self._started, error)
        if self._token is not None:
            _guarded(context.detach, self._token)
        _guarded(self._started.end)

    def set(self, attributes: Attributes) -> None:
        """Add attributes that are known by now."""
        if self._started is not None:
            _guarded(self._started.set_attributes, attributes)

    @property
    def traceparent(self) -> str | None:
        """The address of the span, None if it isn't recorded."""
        return None if self._started is None else _guarded(_traceparent, self._started)


_NOT_RECORDED = Span()


def span(
    name: str,
    attributes: Attributes,
    *,
    kind: str = "INTERNAL",
    links: Iterable[str] = (),
    started: int | None = None,
) -> Span:
    """Return a span. `links` are the addresses of spans that have caused it; it begins at `started`, or now."""
    if not tracing():
        return _NOT_RECORDED

    def start() -> Any:
        return _tracer().start_span(
            name,
            kind=trace.SpanKind[kind],
            attributes=attributes,
            links=[link for each in links if (link := _link(each)) is not None],
            start_time=started,
        )

    return Span(start)


def add_ended(name: str, attributes: Attributes, *, started: int, ended: int) -> None:
    """Record something that is over as a child of the current span."""
    if tracing():
        _guarded(lambda: _tracer().start_span(name, attributes=attributes, start_time=started).end(ended))


def current_traceparent() -> str | None:
    """Return the address of the current span, if it is recorded."""
    return _guarded(_traceparent, trace.get_current_span()) if tracing() else None


def add_ids(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Add the ids of the current span to a line of the log."""
    if tracing():
        at = trace.get_current_span().get_span_context()
        if at.is_valid:
            fields["trace_id"] = trace.format_trace_id(at.trace_id)
            fields["span_id"] = trace.format_span_id(at.span_id)
    return fields


def _tracer() -> Any:
    return trace.get_tracer("pgvector_sync")


def _enter(started: Any) -> Any:
    return context.attach(trace.set_span_in_context(started))


def _fail(started: Any, error: BaseException) -> None:
    """Say that the span failed: the class of the error, or its SQLSTATE. Its message may quote a row."""
    started.set_attribute("error.type", getattr(error, "sqlstate", None) or type(error).__name__)
    started.set_status(trace.StatusCode.ERROR)


def _traceparent(started: Any) -> str | None:
    at = started.get_span_context()
    if not at.is_valid or not started.is_recording():
        return None
    return f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"


def _link(traceparent: str) -> Any:
    """Return the link to a span. None if the address isn't valid: it comes from a table."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    at = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    return trace.Link(at) if at.is_valid else None


def _guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a tracer. What it raises is logged, since the caller's work must go on, and must not be repeated."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001
        write_line(SinkFailed(sink="tracer", error=type(error)))
        return None
