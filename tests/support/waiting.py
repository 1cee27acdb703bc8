"""Waits until a condition becomes true, with a deadline instead of a fixed sleep."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from pgvector_sync.model.deadline import Deadline

T = TypeVar("T")


def within(seconds: float) -> Deadline:
    """A deadline this many seconds from now."""
    return Deadline.after(timedelta(seconds=seconds))


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, what: str | None = None) -> T:
    """Returns the first truthy value of `predicate`; an AssertionError in it means "not yet".

    Fails after `timeout` seconds, naming the condition, the last value and the last assertion.
    """
    end = time.monotonic() + timeout
    pause = 0.005
    while True:
        value, doubt = None, None
        try:
            value = predicate()
        except AssertionError as error:
            doubt = error
        if value:
            return value
        if time.monotonic() > end:
            seen = f"\n{doubt}" if doubt else f"; last value: {value!r}"
            raise AssertionError(f"not within {timeout:g} s: {what or _source(predicate)}{seen}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def never(predicate: Callable[[], object], seconds: float, *, what: str | None = None) -> None:
    """Fails if `predicate` becomes true within `seconds`. Every use waits that long, so keep it short."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = predicate()
        assert not value, f"became true: {what or _source(predicate)}; value: {value!r}"
        time.sleep(0.01)


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return getattr(predicate, "__name__", repr(predicate))
