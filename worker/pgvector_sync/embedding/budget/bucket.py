"""Token buckets: how much may be spent now, or how long to wait.

A bucket has a gauge for requests and one for tokens. A gauge refills at `rate` up to `capacity`. A call passes
once every gauge has reached its `floor`, and takes its `cost`, which may leave a debt: otherwise a request larger
than the capacity could never pass. An unused bucket fills up, so a full bucket needn't be stored. A `State.at` in
the future means that the bucket is blocked until then.

Any program may have written what is read from Redis. So a time that `block` can't have written counts as no
bucket, a debt is cut off at `deepest`, and anything that isn't a number counts as full. No bucket can then require
a longer wait than an honest one.

The arithmetic exists twice, here and in Lua (`redis_buckets`); both pass the same test cases.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


LONGEST_PAUSE = timedelta(minutes=1)
"""The longest `block`. A longer pause that a provider asks for is kept in the state of its pipelines."""


class Verb(StrEnum):
    """The operations on a bucket."""

    TAKE = "take"
    SETTLE = "settle"
    """Take the cost whatever the level of the gauges: it has been spent."""
    BLOCK = "block"
    """Let no call pass for `pause` seconds, and empty the gauges so that no burst follows."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a call takes from one gauge, in requests or tokens."""

    name: str
    capacity: float
    rate: float
    """Refilled per second."""
    floor: float = 0.0
    cost: float = 0.0
    """A negative cost is given back."""
    deepest: float = 1e15
    """The largest debt; a larger one counts as this much."""


@dataclass(frozen=True, slots=True)
class State:
    at: float
    """The time of `levels`, in seconds of the clock in use."""
    levels: Mapping[str, float]


class Buckets(Protocol):
    """Buckets by name; safe across threads."""

    def draw(self, verb: Verb, name: str, draws: Sequence[Draw], *, pause: float = 0.0) -> float:
        """Return 0.0 if taken, else the seconds to wait before trying again."""
        ...

    def close(self) -> None: ...


def draw(
    state: State | None, verb: Verb, draws: Sequence[Draw], *, now: float, pause: float = 0.0
) -> tuple[State | None, float]:
    """Return the new state and the seconds to wait. If there is a wait, the state hasn't changed."""
    if state is not None and not state.at <= now + LONGEST_PAUSE.total_seconds():
        state = None  # `block` can't have written that
    at = now if state is None else state.at
    levels = {} if state is None else dict(state.levels)
    passed = max(now - at, 0.0)
    wait = max(at - now, 0.0)
    short = 0.0
    for gauge in draws:
        level = min(
            max(levels.get(gauge.name, gauge.capacity), -gauge.deepest) + passed * gauge.rate, gauge.capacity
        )
        short = max(short, (gauge.floor - level) / gauge.rate)
        if verb is Verb.BLOCK:
            level = min(level, 0.0)
        levels[gauge.name] = min(level - gauge.cost, gauge.capacity)
    if verb is Verb.TAKE and wait + short > 0:
        return state, wait + short
    return State(max(at, now + min(pause, LONGEST_PAUSE.total_seconds())), levels), 0.0


class LocalBuckets:
    """The buckets of this process. A new bucket is full, or empty if `full` is false."""

    def __init__(self, *, full: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._full = full
        self._clock = clock
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()

    def draw(self, verb: Verb, name: str, draws: Sequence[Draw], *, pause: float = 0.0) -> float:
        with self._lock:
            now = self._clock()
            state = self._states.get(name)
            if state is None and not self._full:
                state = State(now, {gauge.name: 0.0 for gauge in draws})
            after, wait = draw(state, verb, draws, now=now, pause=pause)
            if after is not None:
                self._states[name] = after
            return wait

    def close(self) -> None:
        """Nothing is open."""
