"""What one call to a provider may take: one deadline for all of it, and so many bytes for its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.model.deadline import Deadline

FIXED_BYTES = 1_000_000
"""Of any answer, however little was asked for: room for an honest mistake, such as a vector of another size, to be
recognized and named."""
NUMBER_BYTES = 40
"""Of a number in JSON: 24 are the longest double, the rest is a comma, a line break and an indentation."""
ITEM_BYTES = 1_000
"""Of a vector besides its numbers."""
ERROR_BYTES = 64_000
"""Of an error's body. A longer one isn't read: the status says enough."""


@dataclass(frozen=True, slots=True)
class Bounds:
    until: Deadline
    answer_bytes: int


_bounds: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


def most_bytes(*, count: int, dimensions: int) -> int:
    """The longest honest answer: numbers in indented JSON. Base64 takes a sixth of it."""
    return FIXED_BYTES + count * (ITEM_BYTES + dimensions * NUMBER_BYTES)


@contextmanager
def bounded(*, timeout: timedelta, answer_bytes: int) -> Iterator[None]:
    """Bounds every request that this thread makes inside."""
    token = _bounds.set(Bounds(Deadline.after(timeout), answer_bytes))
    try:
        yield
    finally:
        _bounds.reset(token)


def current() -> Bounds | None:
    return _bounds.get()


def time_left(timeout: float | None) -> float | None:
    """Seconds for one operation on the network: its own timeout, or what the call has left. None: no limit."""
    bounds = current()
    if bounds is None:
        return timeout
    left = bounds.until.left.total_seconds()
    return left if timeout is None else min(left, timeout)
