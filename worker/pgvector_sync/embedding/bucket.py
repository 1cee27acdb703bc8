"""Token buckets: how much may be spent now, or how long to wait for it.

A bucket has a gauge for requests and one for tokens. A gauge is refilled at `rate` up to `capacity`; a call
passes once every gauge stands at its `floor`, and takes its `cost`, which may leave a debt: else a request that
is larger than the capacity could never pass. A bucket that nobody has touched for long is full, so that one may
be forgotten. `State.at` in the future means blocked until then.

What is read from Redis may have been written by anybody: a time that `block` can't have written counts as no
bucket, a debt is cut at `deepest`, and what isn't a number counts as full. So no bucket asks for a longer wait
than an honest one can, and each wait ends by the clock.

The arithmetic is written twice, here and in Lua (`redis_buckets`): one suite of cases holds the two together.
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
"""Of a `block`. What a provider asks for beyond that stands in the pipelines' own state."""


class Verb(StrEnum):
    """What is done to a bucket."""

    TAKE = "take"
    SETTLE = "settle"
    """Whatever the gauges say: what was spent has been spent."""
    BLOCK = "block"
    """Nobody passes for `pause` seconds, and no hoard is left for the moment after."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a call wants of one gauge, in requests or tokens, and seconds."""

    gauge: str
    capacity: float
    rate: float
    """A second."""
    floor: float = 0.0
    cost: float = 0.0
    """Negative: given back."""
    deepest: float = 1e15
    """A debt that is larger counts as this much."""


@dataclass(frozen=True, slots=True)
class State:
    at: float
    """Seconds on some clock: when `levels` were, or will be, true."""
    levels: Mapping[str, float]


class Buckets(Protocol):
    """Buckets by name, for many threads."""

    def draw(self, verb: Verb, name: str, draws: Sequence[Draw], *, pause: float = 0.0) -> float:
        """0 if it was done; else nothing was taken, and it is worth asking again in so many seconds."""
        ...

    def close(self) -> None: ...


def draw(
    state: State | None, verb: Verb, draws: Sequence[Draw], *, now: float, pause: float = 0.0
) -> tuple[State | None, float]:
    """The bucket afterwards, and the seconds to wait; above 0 nothing has changed."""
    if state is not None and not state.at <= now + LONGEST_PAUSE.total_seconds():
        state = None  # nobody has written that
    at = now if state is None else state.at
    levels = {} if state is None else dict(state.levels)
    passed = max(now - at, 0.0)
    wait = max(at - now, 0.0)
    short = 0.0
    for one in draws:
        level = min(max(levels.get(one.gauge, one.capacity), -one.deepest) + passed * one.rate, one.capacity)
        short = max(short, (one.floor - level) / one.rate)
        if verb is Verb.BLOCK:
            level = min(level, 0.0)
        levels[one.gauge] = min(level - one.cost, one.capacity)
    if verb is Verb.TAKE and wait + short > 0:
        return state, wait + short
    return State(max(at, now + min(pause, LONGEST_PAUSE.total_seconds())), levels), 0.0


class LocalBuckets:
    """The buckets of this process. `full` says whether a new one is."""

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
                state = State(now, {one.gauge: 0.0 for one in draws})
            after, wait = draw(state, verb, draws, now=now, pause=pause)
            if after is not None:
                self._states[name] = after
            return wait

    def close(self) -> None:
        """Nothing is open."""
