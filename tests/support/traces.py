"""The spans of this process, as the SDK of OpenTelemetry records them. A process has one tracer provider for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

Receiver = Callable[[ReadableSpan], None]
_receivers: list[Receiver] = []


class _PassOn(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        for receiver in _receivers:
            receiver(span)


def install() -> None:
    """Sets the tracer provider of the tests' own process."""
    provider = TracerProvider()
    provider.add_span_processor(_PassOn())
    trace.set_tracer_provider(provider)


@contextmanager
def recorded(receiver: Receiver) -> Iterator[None]:
    """Passes on every span that ends inside the block."""
    _receivers.append(receiver)
    try:
        yield
    finally:
        _receivers.remove(receiver)


@contextmanager
def spans() -> Iterator[list[ReadableSpan]]:
    """The spans that end inside the block, in this order."""
    ended: list[ReadableSpan] = []
    with recorded(ended.append):
        yield ended
