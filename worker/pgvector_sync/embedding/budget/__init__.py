"""The budget: how many requests and tokens per minute all workers together may send to a model of a provider.

Call `take` before each request, `settle` after its answer to correct the estimate, and `block` after a 429.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pgvector_sync.embedding.budget.bucket import Buckets, Draw, LocalBuckets, Verb
from pgvector_sync.errors import BudgetExhausted, BudgetOverdrawn, ConfigError
from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline

if TYPE_CHECKING:
    from pgvector_sync.embedding.dialects.dialect import Limits
    from pgvector_sync.model import Provider
    from pgvector_sync.settings import Settings

BURST = 0.05
"""The share of a minute's limit that may be spent at once: three seconds' worth. The other 95 % flow evenly, so
that no interval of 60 seconds exceeds the limit."""
LIVE_SHARE = 0.25
"""The share of the burst that bulk leaves for live. While live needs more than is available, bulk gets nothing."""
LARGEST_REQUEST = 1 / 6
"""The share of a minute's tokens that one request may take. Its debt delays other requests by ten seconds at
most."""
RESERVED_FOR_CALL = timedelta(seconds=5)
"""How long before the deadline waiting ends: a call that is cut off would be paid for and discarded."""
BULK_SPREAD = timedelta(milliseconds=500)
"""The time over which waiting bulk calls are spread, so that they don't all retry at the same moment. The burst is
longer, so this wastes no budget."""
SHORT_WAIT = timedelta(seconds=20)
"""Longer than any wait caused by the burst and the largest request. A longer wait comes from a 429 or a tiny
limit: then the pipeline cools down instead of claiming and releasing rows again and again."""
LONGEST_DEBT = timedelta(minutes=10)
"""The longest time until a debt is paid off: that of a request of 8,000 tokens at 800 tokens per minute."""
PAUSE_WITHOUT_RETRY_AFTER = timedelta(seconds=1)
"""How long a 429 without Retry-After blocks."""


class Budget:
    """The budget of one provider, kept per model. Without limits, nothing is counted."""

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
        """Return smaller limits if few tokens may be sent per minute, but large enough for the longest text.

        The same holds for texts, if the provider counts them rather than requests.
        """
        inputs = self._provider.requests_per_minute
        if inputs is not None and limits.counts_inputs:
            limits = replace(limits, max_inputs=min(limits.max_inputs, max(1, int(inputs * LARGEST_REQUEST))))
        limit = self._provider.tokens_per_minute
        if limit is None or limits.max_request_tokens is None:
            return limits
        largest = max(limits.max_input_tokens or 0, int(limit * LARGEST_REQUEST))
        return replace(limits, max_request_tokens=min(limits.max_request_tokens, largest))

    def take(self, model: str, tokens: int, *, lane: Lane, deadline: Deadline, requests: int = 1) -> None:
        """Wait until a request of this many tokens may be sent, and take it from the budget.

        `requests` is what the provider counts it as.

        Raises BudgetExhausted if the wait would leave too little time for the call, BudgetOverdrawn if it would
        also be longer than SHORT_WAIT.
        """
        if not self._gauges:
            return
        draws = [_draw(gauge, requests if gauge.name == "requests" else tokens, lane) for gauge in self._gauges]
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
        """Take the tokens that were spent beyond the estimate; a negative number gives tokens back."""
        if tokens and self.counts_tokens:
            costs = [replace(gauge, cost=tokens if gauge.name == "tokens" else 0) for gauge in self._gauges]
            self._buckets.draw(Verb.SETTLE, self._name(model), costs)

    def block(self, model: str, wait: timedelta | None) -> None:
        """Stop all requests to the model for `wait`, after the provider answered 429."""
        if self._gauges:
            seconds = (wait or PAUSE_WITHOUT_RETRY_AFTER).total_seconds()
            self._buckets.draw(Verb.BLOCK, self._name(model), self._gauges, pause=seconds)

    def close(self) -> None:
        self._buckets.close()

    def _name(self, model: str) -> str:
        return f"{self._provider.name}:{model}"


def open_budget(provider: Provider, settings: Settings) -> Budget:
    """Open the budget of a provider: shared through Redis if it has limits and Redis is configured.

    Never fails.
    """
    limited = provider.requests_per_minute is not None or provider.tokens_per_minute is not None
    if not limited or settings.redis_url is None or settings.database_url is None:
        return Budget(provider, LocalBuckets())
    from pgvector_sync.embedding.budget.redis_buckets import RedisBuckets

    try:
        return Budget(provider, RedisBuckets(settings.redis(), prefix=settings.namespace()))
    except ConfigError:  # an invalid URL: `doctor` reports it, and no row has to wait for that
        return Budget(provider, LocalBuckets())


def _gauge(name: str, limit: int) -> Draw:
    """The capacity is at least one request. Even then the limit is kept, since requests are whole."""
    rate = limit * (1 - BURST) / 60
    return Draw(name, capacity=max(limit * BURST, 1.0), rate=rate, deepest=rate * LONGEST_DEBT.total_seconds())


def _draw(gauge: Draw, cost: int, lane: Lane) -> Draw:
    """Live goes into debt early, since smaller bulk calls could keep the level from ever reaching its cost."""
    share = gauge.capacity * LIVE_SHARE
    floor = min(cost, max(share, 1.0)) if lane is Lane.LIVE else min(cost + share, gauge.capacity)
    return replace(gauge, floor=floor, cost=cost)
