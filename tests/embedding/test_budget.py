"""The budget as workers use it: shared by processes, live first, bounded by the deadline, and with Redis gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
import redis

from pgvector_sync.embedding.budget import Budget, open_budget
from pgvector_sync.errors import BudgetExhausted, RateLimited
from pgvector_sync.model import Lane, Provider, Spec
from pgvector_sync.settings import Settings
from support.endpoint import Endpoint, Limit
from support.processes import Processes
from support.servers import Valkey
from support.waiting import eventually, within

MODEL = "text-embedding-3-small"
SPEC = Spec(MODEL, 8)
Open = Callable[..., Budget]


@pytest.fixture
def open_shared(redis_url: str) -> Iterator[Open]:
    """Opens budgets of workers with limits per minute."""
    opened = []

    def open_one(requests: int | None = None, tokens: int | None = None) -> Budget:
        settings = Settings(_env_file=None, REDIS_URL=redis_url, DATABASE_URL="postgresql:///test")
        provider = Provider("test", "http://x", requests_per_minute=requests, tokens_per_minute=tokens)
        opened.append(open_budget(provider, settings))
        return opened[-1]

    yield open_one
    for budget in opened:
        budget.close()


def take(budget: Budget, tokens: int = 1, *, lane: Lane = Lane.LIVE, seconds: float = 0.02) -> bool:
    """Whether a request passes at once."""
    try:
        budget.take(MODEL, tokens, lane=lane, deadline=within(seconds))
    except RateLimited:
        return False
    return True


def taken(budget: Budget, most: int = 1_000, *, lane: Lane = Lane.LIVE) -> int:
    """How many requests pass at once, up to `most`."""
    return next((count for count in range(most) if not take(budget, lane=lane)), most)


def test_two_workers_share_one_budget(open_shared: Open) -> None:
    first, second = open_shared(600), open_shared(600)
    assert taken(first, 20) == 20
    assert 10 <= taken(second) <= 14  # the burst is 30, and something flows in meanwhile
    assert taken(first) <= 2


BURN = """
from datetime import timedelta
from pgvector_sync.embedding.budget import open_budget
from pgvector_sync.errors import RateLimited
from pgvector_sync.model import Lane, Provider
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.settings import Settings
budget = open_budget(Provider("test", "http://x", requests_per_minute=1200), Settings(_env_file=None))
count = 0
try:
    while True:
        budget.take("m", 1, lane=Lane.BULK, deadline=Deadline.after(timedelta(milliseconds=1)))
        count += 1
except RateLimited:
    print("taken", count)
"""


def test_two_processes_share_one_budget(processes: Processes, redis_url: str) -> None:
    env = {"REDIS_URL": redis_url, "DATABASE_URL": "postgresql:///test"}
    both = [processes.python(BURN, **env) for _ in range(2)]
    for process in both:
        process.wait_for("taken")
    counts = [int(process.printed.split()[-1]) for process in both]
    # bulk may take three quarters of 60; the later process finds what has flowed in since, 19 a second
    assert 45 <= sum(counts) <= 90


def test_bulk_leaves_a_share_for_live_and_gets_nothing_while_live_wants_more(open_shared: Open) -> None:
    budget = open_shared(1_200)
    assert 45 <= taken(budget, lane=Lane.BULK) <= 48
    assert not take(budget, lane=Lane.BULK)
    assert 14 <= taken(budget, lane=Lane.LIVE) <= 18
    bulk = threading.Thread(target=take, args=(budget,), kwargs={"lane": Lane.BULK, "seconds": 60}, daemon=True)
    bulk.start()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        take(budget, seconds=0.5)
        assert bulk.is_alive()
    bulk.join(5)
    assert not bulk.is_alive()


def test_a_live_call_is_not_starved_by_smaller_bulk_calls(open_shared: Open) -> None:
    budget = open_shared(None, 60_000)
    stop = threading.Event()

    def nibble() -> None:
        while not stop.is_set():
            with suppress(RateLimited):
                budget.take(MODEL, 20, lane=Lane.BULK, deadline=within(5))

    nibblers = [threading.Thread(target=nibble, daemon=True) for _ in range(4)]
    for thread in nibblers:
        thread.start()
    eventually(lambda: not take(budget, 20, lane=Lane.BULK), what="the bulk calls have used up their share")
    begun = time.monotonic()
    budget.take(MODEL, 2_500, lane=Lane.LIVE, deadline=within(20))
    assert time.monotonic() - begun < 1.5
    stop.set()
    for thread in nibblers:
        thread.join(10)


def test_flushall_costs_at_most_one_burst(open_shared: Open, redis_url: str) -> None:
    budget = open_shared(600)
    taken(budget)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert 30 <= taken(budget) <= 33


def test_without_redis_each_process_uses_its_own_budget_and_then_returns_to_the_shared_one(
    open_shared: Open, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.embedding.budget.redis_buckets.RECONNECT_AFTER", timedelta(seconds=0.2))
    budget = open_shared(600)
    assert take(budget)
    valkey.kill()
    begun = time.monotonic()
    budget.take(MODEL, 1, lane=Lane.LIVE, deadline=within(10))
    assert time.monotonic() - begun < 2
    assert taken(budget) <= 4  # it begins empty
    valkey.start()

    def seen() -> bool:
        take(budget)
        with redis.Redis.from_url(valkey.url) as client:
            return len(client.keys("*:budget:*")) == 1

    eventually(seen)


def test_a_redis_that_hangs_costs_half_a_second_once(open_shared: Open, valkey: Valkey) -> None:
    budget = open_shared(6_000)
    assert take(budget)
    valkey.pause()
    try:
        begun = time.monotonic()
        for _ in range(5):
            budget.take(MODEL, 1, lane=Lane.LIVE, deadline=within(20))
        assert time.monotonic() - begun < 2
    finally:
        valkey.resume()


def test_waiting_is_bounded_by_the_deadline_and_the_error_says_how_long_to_wait(open_shared: Open) -> None:
    budget = open_shared(60)
    taken(budget)
    begun = time.monotonic()
    budget.take(MODEL, 1, lane=Lane.LIVE, deadline=within(10))
    assert 0.2 < time.monotonic() - begun < 2
    budget.block(MODEL, timedelta(seconds=50))
    begun = time.monotonic()
    with pytest.raises(RateLimited) as raised:
        budget.take(MODEL, 1, lane=Lane.LIVE, deadline=within(40))
    assert time.monotonic() - begun < 1
    assert raised.value.code is None
    assert raised.value.retry_after is not None
    assert timedelta(seconds=45) < raised.value.retry_after < timedelta(seconds=55)


def test_a_batch_that_waits_in_vain_does_not_blame_the_provider(open_shared: Open) -> None:
    budget = open_shared(1_200)
    done = threading.Event()

    def starve() -> None:
        while not done.is_set():
            take(budget, seconds=1)

    live = [threading.Thread(target=starve, daemon=True) for _ in range(3)]
    for thread in live:
        thread.start()
    eventually(lambda: not take(budget, lane=Lane.BULK))
    with pytest.raises(BudgetExhausted):
        budget.take(MODEL, 1, lane=Lane.BULK, deadline=within(2))
    done.set()
    for thread in live:
        thread.join(5)


def test_a_429_stops_all_workers_until_it_is_over(open_shared: Open) -> None:
    first, second = open_shared(6_000), open_shared(6_000)
    assert take(second)
    first.block(MODEL, timedelta(seconds=0.5))
    begun = time.monotonic()
    assert not take(second)
    second.take(MODEL, 1, lane=Lane.LIVE, deadline=within(10))
    assert 0.4 < time.monotonic() - begun < 1.5
    second.take("another-model", 1, lane=Lane.LIVE, deadline=within(0.02))


def test_without_limits_redis_is_not_used(redis_url: str) -> None:
    settings = Settings(_env_file=None, REDIS_URL=redis_url, DATABASE_URL="postgresql:///test")
    budget = open_budget(Provider("test", "http://x"), settings)
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_connections_received"]
        budget.take(MODEL, 100, lane=Lane.BULK, deadline=within(1))
        budget.settle(MODEL, 5)
        budget.block(MODEL, timedelta(seconds=60))
        assert take(budget)
        assert client.info("stats")["total_connections_received"] == before
        assert client.keys() == []


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:1/0"])
def test_a_missing_redis_fails_no_call(url: str) -> None:
    settings = Settings(_env_file=None, REDIS_URL=url, DATABASE_URL="postgresql:///test")
    budget = open_budget(Provider("test", "http://x", requests_per_minute=6_000), settings)
    budget.take(MODEL, 1, lane=Lane.LIVE, deadline=within(5))


# -- in the embedder -------------------------------------------------------------------------------------------


def test_the_embedder_keeps_to_the_limit_without_redis(endpoint: Endpoint, open_caller) -> None:
    endpoint.limit = Limit(requests_per_minute=600, burst=4)
    embed = open_caller(endpoint.base_url, requests_per_minute=600)
    for i in range(45):
        embed([f"text {i}"], SPEC)
    assert endpoint.calls.refused == 0


def test_the_estimate_is_settled_by_what_the_provider_counted(
    endpoint: Endpoint, open_caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.embedding.tokens._encoder", lambda model: None)
    embed = open_caller(endpoint.base_url, tokens_per_minute=200_000)
    settled = []
    budget = embed.embedder._budget
    monkeypatch.setattr(budget, "settle", lambda model, tokens: settled.append(tokens))
    embed(["x" * 400], SPEC)
    assert settled == [100 - 200]
    endpoint.fail(status=400, times=1)
    with pytest.raises(Exception, match="rejected the input"):
        embed(["x" * 400], SPEC)
    assert settled == [-100, -200]  # a refused input costs nothing


def test_a_429_of_the_provider_blocks_the_bucket(endpoint: Endpoint, open_caller) -> None:
    embed = open_caller(endpoint.base_url, requests_per_minute=6_000)
    endpoint.fail(status=429, headers={"Retry-After": "300"}, times=1)
    for _ in range(2):
        with pytest.raises(RateLimited):
            embed(["text"], SPEC)
    assert endpoint.calls.requests == 1


def test_what_was_paid_for_before_the_budget_ran_out_is_kept(endpoint: Endpoint, open_caller) -> None:
    embed = open_caller(endpoint.base_url, tokens_per_minute=30_000)
    texts = [f"{i} " + "word " * 1_600 for i in range(8)]  # 2,000 tokens or more each; the burst is 1,500
    answer = embed(texts, SPEC, seconds=7)
    assert 0 < len(answer.left) < 8
    assert isinstance(answer.failure, RateLimited)
    assert endpoint.calls.answered == answer.requests
    for position, vector in enumerate(answer.vectors):
        assert (position in answer.left) == bool(vector[0] != vector[0])


def test_a_prefix_is_reserved_with_every_text(
    endpoint: Endpoint, open_caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.embedding.tokens._encoder", lambda model: None)
    embed = open_caller(endpoint.base_url, tokens_per_minute=200_000)
    reserved = []
    monkeypatch.setattr(embed.embedder._budget, "take", lambda model, tokens, **_: reserved.append(tokens))
    embed(["x" * 400] * 3, SPEC)
    embed(["x" * 400] * 3, Spec(MODEL, 8, prefix="p" * 40))
    assert reserved == [3 * 200, 3 * 220]
