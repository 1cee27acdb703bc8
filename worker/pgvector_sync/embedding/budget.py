"""The budget: how many requests and tokens a minute a provider's model may be sent, by all workers together.

Before each request `take`; after its answer `settle` what the estimate was off; after a 429 `block`.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pgvector_sync.embedding.bucket import Buckets, Draw, LocalBuckets, Verb
from pgvector_sync.errors import BudgetExhausted, BudgetOverdrawn, ConfigError
from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline

if TYPE_CHECKING:
    from pgvector_sync.embedding.dialects.dialect import Limits
    from pgvector_sync.model import Provider
    from pgvector_sync.settings import Settings

BURST = 0.05
"""Of a minute's limit, three seconds' worth: what may be spent at once. The other 95 % flow evenly, so that no
60 seconds, wherever they begin, hold more than the limit."""
LIVE_SHARE = 0.25
"""Of the burst: what bulk leaves for live. While live wants more than there is, bulk gets nothing."""
LARGEST = 1 / 6
"""Of a minute's tokens, in one request: its debt holds up the others for ten seconds at most."""
RESERVED_FOR_CALL = timedelta(seconds=5)
"""How long before the deadline waiting ends: a call cut off would be paid for and thrown away."""
BULK_SPREAD = timedelta(milliseconds=500)
"""The time over which waiting bulk calls spread: those that miss nothing by it (the burst is longer) needn't all
ask at the same moment."""
SHORT_WAIT = timedelta(seconds=20)
"""The burst and the largest debt are paid off sooner; a longer wait is a 429's, or a tiny limit's, and
a pipeline had better cool down for it than claim and release rows all the time."""
LONGEST_DEBT = timedelta(minutes=10)
"""The time until a debt is paid off, at most: that of a request of 8,000 tokens with 800 a minute."""
PAUSE_WITHOUT_RETRY_AFTER = timedelta(seconds=1)
"""How long a 429 without Retry-After blocks."""


class Budget:
    """One provider's, for all its models. A limit that isn't set isn't looked at; without limits, nothing is."""

    def __init__(self, provider: Provider, buckets: Buckets) -> None:
        self._provider = provider
        self._buckets = buckets
        self._gauges = [
            _gauge(name, limit)
            for name, limit in (
                ("requests", provider.requests_per_minute),
                ("tokens", provider.tokens_per_minute),
            )
            if limit is not None
        ]

    @property
    def counts_tokens(self) -> bool:
        return self._provider.tokens_per_minute is not None

    def within(self, limits: Limits) -> Limits:
        """Smaller requests where few tokens may be sent per minute, but none too small for the longest text."""
        limit = self._provider.tokens_per_minute
        if limit is None or limits.max_request_tokens is None:
            return limits
        largest = max(limits.max_input_tokens or 0, int(limit * LARGEST))
        return replace(limits, max_request_tokens=min(limits.max_request_tokens, largest))

    def take(self, model: str, tokens: int, *, lane: Lane, deadline: Deadline) -> None:
        """One request of so many tokens; waits until it may be sent.

        Raises BudgetExhausted where the wait would end too late for the call to be answered, BudgetOverdrawn where
        it would be a long one.
        """
        if not self._gauges:
            return
        draws = [_wanted(gauge, 1 if gauge.gauge == "requests" else tokens, lane) for gauge in self._gauges]
        until = Deadline.after(deadline.left - min(RESERVED_FOR_CALL, deadline.left / 2))
        while (seconds := self._buckets.draw(Verb.TAKE, self._name(model), draws)) > 0:
            wait, left = timedelta(seconds=seconds), until.left
            if wait > left:
                failure = BudgetExhausted if wait <= SHORT_WAIT else BudgetOverdrawn
                raise failure("the budget of this provider and model is used up", retry_after=wait)
            if lane is Lane.BULK:
                wait = min(wait + random.random() * BULK_SPREAD, left)  # noqa: S311
            time.sleep(wait.total_seconds())

    def settle(self, model: str, tokens: int) -> None:
        """More tokens (or, negative, fewer) were spent than were taken."""
        if tokens and self.counts_tokens:
            costs = [replace(gauge, cost=tokens if gauge.gauge == "tokens" else 0) for gauge in self._gauges]
            self._buckets.draw(Verb.SETTLE, self._name(model), costs)

    def block(self, model: str, wait: timedelta | None) -> None:
        """The provider said 429: nobody sends for so long."""
        if self._gauges:
            seconds = (wait or PAUSE_WITHOUT_RETRY_AFTER).total_seconds()
            self._buckets.draw(Verb.BLOCK, self._name(model), self._gauges, pause=seconds)

    def close(self) -> None:
        self._buckets.close()

    def _name(self, model: str) -> str:
        return f"{self._provider.name}:{model}"


def open_budget(provider: Provider, settings: Settings) -> Budget:
    """Shared through Redis, or this process's own where there is no Redis, or nothing to share. Never fails."""
    limited = provider.requests_per_minute is not None or provider.tokens_per_minute is not None
    if not limited or settings.redis_url is None or settings.database_url is None:
        return Budget(provider, LocalBuckets())
    from pgvector_sync.embedding.redis_buckets import RedisBuckets

    try:
        return Budget(provider, RedisBuckets(settings.redis(), prefix=settings.namespace()))
    except ConfigError:  # no URL: `doctor` says so, and no row has to wait for that
        return Budget(provider, LocalBuckets())


def _gauge(name: str, limit: int) -> Draw:
    """At least one request must fit; the rounding-down of whole requests keeps even that within the limit."""
    rate = limit * (1 - BURST) / 60
    return Draw(name, capacity=max(limit * BURST, 1.0), rate=rate, deepest=rate * LONGEST_DEBT.total_seconds())


def _wanted(gauge: Draw, cost: int, lane: Lane) -> Draw:
    """Live goes into debt early rather than wait for a level that bulk's smaller calls would keep from coming."""
    share = gauge.capacity * LIVE_SHARE
    floor = min(cost, max(share, 1.0)) if lane is Lane.LIVE else min(cost + share, gauge.capacity)
    return replace(gauge, floor=floor, cost=cost)
