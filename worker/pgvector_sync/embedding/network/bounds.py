"""The limits of one call to a provider: a deadline for all of it, and the size of its answer in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.model.deadline import Deadline

FIXED_BYTES = 1_000_000
"""Allowed for any answer, however little was requested, so that an honest mistake, such as vectors of another
size, can be recognized and named."""
NUMBER_BYTES = 40
"""Allowed per number in JSON: 24 for the longest double, the rest for a comma, a line break and an indentation."""
ITEM_BYTES = 1_000
"""Allowed per vector, besides its numbers."""
ERROR_BYTES = 64_000
"""Allowed for the body of an error. A longer one isn't read: the status is enough."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of the current call."""

    until: Deadline
    answer_bytes: int


_bounds: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


def longest_answer(*, count: int, dimensions: int) -> int:
    """Return the bytes of the longest honest answer: numbers in indented JSON. Base64 takes a sixth of that."""
    return FIXED_BYTES + count * (ITEM_BYTES + dimensions * NUMBER_BYTES)


def longest_repetition(texts: Sequence[str]) -> int:
    """Return the bytes that an answer may add by repeating the texts: JSON takes up to six for one."""
    return sum(6 * len(text.encode()) for text in texts)


@contextmanager
def bounded(*, timeout: timedelta, answer_bytes: int) -> Iterator[None]:
    """Limit every request that this thread makes in the block."""
    token = _bounds.set(Bounds(Deadline.after(timeout), answer_bytes))
    try:
        yield
    finally:
        _bounds.reset(token)


def current() -> Bounds | None:
    """Return the limits of the call that this thread is making, None outside of one."""
    return _bounds.get()


def time_left(timeout: float | None) -> float | None:
    """Return the seconds for one network operation: its own timeout or what the call has left.

    None means no limit.
    """
    bounds = current()
    if bounds is None:
        return timeout
    left = bounds.until.left.total_seconds()
    return left if timeout is None else min(left, timeout)
