"""The same cases for both implementations: the arithmetic in Python and the script in a real Valkey."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from pgvector_sync.embedding.budget import BURST, _draw, _gauge
from pgvector_sync.embedding.budget.bucket import Buckets, Draw, LocalBuckets, Verb, draw
from pgvector_sync.embedding.budget.redis_buckets import RedisBuckets
from pgvector_sync.model import Lane
from support.servers import Valkey

SLOW = 1e-6
"""A rate at which nothing is refilled while a test runs."""
names = (f"model-{i}" for i in itertools.count())


@pytest.fixture(params=["local", "redis"])
def buckets(request: pytest.FixtureRequest) -> Iterator[Buckets]:
    if request.param == "local":
        yield LocalBuckets()
        return
    found = RedisBuckets(request.getfixturevalue("redis_url"), prefix="test")
    yield found
    found.close()


def one(cost: float, floor: float | None = None, *, capacity: float = 100, rate: float = SLOW) -> list[Draw]:
    return [Draw("tokens", capacity, rate, cost if floor is None else floor, cost)]


def level(buckets: Buckets, name: str, *, capacity: float = 100) -> float:
    """Return the level without taking anything: by how long a far larger amount would take."""
    wait = buckets.draw(Verb.TAKE, name, [Draw("tokens", capacity, SLOW, 10 * capacity, 0)])
    return 10 * capacity - wait * SLOW


def test_a_new_bucket_is_full_and_what_was_taken_is_gone(buckets: Buckets) -> None:
    assert buckets.draw(Verb.TAKE, "m", one(60)) == 0
    assert buckets.draw(Verb.TAKE, "m", one(60)) == pytest.approx(20 / SLOW, rel=1e-3)
    assert buckets.draw(Verb.TAKE, "m", one(40)) == 0
    assert buckets.draw(Verb.TAKE, "other", one(100)) == 0


def test_a_call_larger_than_the_capacity_passes_and_leaves_a_debt(buckets: Buckets) -> None:
    assert buckets.draw(Verb.TAKE, "m", one(500, 100)) == 0
    assert level(buckets, "m") == pytest.approx(-400, abs=0.1)


def test_settling_gives_back_up_to_the_capacity_or_takes_more(buckets: Buckets) -> None:
    buckets.draw(Verb.TAKE, "m", one(50))
    buckets.draw(Verb.SETTLE, "m", one(-20))
    assert level(buckets, "m") == pytest.approx(70, abs=0.1)
    buckets.draw(Verb.SETTLE, "m", one(100))
    assert level(buckets, "m") == pytest.approx(-30, abs=0.1)
    buckets.draw(Verb.SETTLE, "m", one(-1_000))
    assert level(buckets, "m") == pytest.approx(100, abs=0.1)


def test_a_bucket_is_refilled_by_the_clock(buckets: Buckets) -> None:
    fast = one(100, rate=1_000)
    assert buckets.draw(Verb.TAKE, "m", fast) == 0
    wait = buckets.draw(Verb.TAKE, "m", fast)
    assert 0 < wait <= 0.1
    time.sleep(wait + 0.002)  # noqa: TID251  # as long as it has said
    assert buckets.draw(Verb.TAKE, "m", fast) == 0


def test_every_gauge_must_have_enough_and_none_is_touched_otherwise(buckets: Buckets) -> None:
    both = [Draw("requests", 2, SLOW, 1, 1), *one(60)]
    assert buckets.draw(Verb.TAKE, "m", both) == 0
    assert buckets.draw(Verb.TAKE, "m", both) > 0
    assert buckets.draw(Verb.TAKE, "m", [Draw("requests", 2, SLOW, 1, 1)]) == 0
    assert level(buckets, "m") == pytest.approx(40, abs=0.1)


def test_a_block_lasts_as_long_as_requested_and_a_shorter_one_does_not_end_it(buckets: Buckets) -> None:
    gauge = [Draw("tokens", 100, 1_000, 1)]
    buckets.draw(Verb.BLOCK, "m", gauge, pause=60)
    buckets.draw(Verb.BLOCK, "m", gauge, pause=1)
    assert 59 < buckets.draw(Verb.TAKE, "m", gauge) < 60.1


def test_after_a_block_no_burst_follows(buckets: Buckets) -> None:
    gauge = [Draw("tokens", 100, 1_000, 100)]
    buckets.draw(Verb.BLOCK, "m", gauge, pause=0.05)
    assert buckets.draw(Verb.TAKE, "m", gauge) == pytest.approx(0.15, abs=0.05)


calls = st.lists(
    st.tuples(st.sampled_from(list(Verb)), st.integers(-50, 150), st.integers(0, 150), st.sampled_from([0, 500])),
    max_size=12,
)


def test_the_script_and_the_arithmetic_agree(valkey: Valkey) -> None:
    valkey.start()
    shared = RedisBuckets(valkey.url, prefix="same")

    @given(calls)
    def same(sequence: list[tuple[Verb, int, int, int]]) -> None:
        name, local = next(names), LocalBuckets()
        for verb, cost, floor, pause in sequence:
            draws = [Draw("requests", 10, SLOW, 1, 1), *one(cost, floor)]
            here = local.draw(verb, name, draws, pause=pause)
            there = shared.draw(verb, name, draws, pause=pause)
            assert there == pytest.approx(here, rel=1e-3, abs=2)

    same()
    assert shared._fallback is None
    shared.close()


def test_a_bucket_in_redis_expires_when_it_is_full_again(redis_url: str) -> None:
    shared = RedisBuckets(redis_url, prefix="test")
    shared.draw(Verb.TAKE, "m", [Draw("tokens", 100, 50, 100, 100)])
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == [b"test:budget:m"]
        assert 1_500 < client.pttl("test:budget:m") <= 2_001
    shared.close()


# -- what the constants promise, simulated ---------------------------------------------------------------------


def busiest_minute(limit: int, cost: Callable[[], int], *, gauge: str, lane: Lane) -> tuple[float, float]:
    """Return the maximum of any 60 seconds and the average per minute, for a caller that takes all it can get."""
    full = _gauge(gauge, limit)
    state, now, most = None, 0.0, 0.0
    window: deque[tuple[float, int]] = deque()
    total, held = 0, 0
    while now < 150:
        wants = cost()
        state, wait = draw(state, Verb.TAKE, [_draw(full, wants, lane)], now=now)
        if wait:
            now += wait + 1e-6
            continue
        window.append((now, wants))
        total, held = total + wants, held + wants
        while window[0][0] <= now - 60:
            held -= window.popleft()[1]
        most = max(most, held)
    return most, total / (now / 60)


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("limit", [1, 2, 3, 10, 60, 500])
def test_no_minute_holds_more_requests_than_the_limit(limit: int, lane: Lane) -> None:
    most, average = busiest_minute(limit, lambda: 1, gauge="requests", lane=lane)
    assert most <= limit
    assert average >= 0.9 * limit


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("size", [1_000, 5_000, 40_000])
def test_no_minute_holds_more_tokens_than_the_limit_and_one_debt(size: int, lane: Lane) -> None:
    limit = 1_000_000
    sizes = itertools.cycle([size, size // 2, size // 10])
    most, average = busiest_minute(limit, lambda: next(sizes), gauge="tokens", lane=lane)
    assert most <= limit + max(0, size - limit * BURST / 4)
    assert average >= 0.94 * limit
