"""Requests to a provider with limits that aren't declared: how many they cost, and what is remembered."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pgvector_sync.batch import Outcome
from pgvector_sync.model import Lane, State
from pgvector_sync.model.learned import Learned
from support.endpoint import Calls, Endpoint
from support.limited_endpoint import LimitedEndpoint, SerialEndpoint
from support.steps import Steps
from support.synced import DOCS, Synced

ROWS = 512
BYTES_PER_ROW = 400
WORDS = (
    "INSERT INTO docs SELECT i, rpad('text ' || i, {octets}, ' word') FROM generate_series({first}, {last}) AS i"
)
OpenLimited = Callable[..., Steps]


@pytest.fixture
def calling(synced: Synced, worker: Callable[..., Steps]) -> Iterator[Callable[..., Steps]]:
    """Return a factory of workers on the default source, whose provider is the given endpoint."""
    opened: list[Endpoint] = []

    def make(endpoint: Endpoint, **settings: object) -> Steps:
        opened.append(endpoint)
        synced.endpoint = endpoint
        synced.run(DOCS)
        synced.pipeline()
        return worker(**{"live_batch_size": ROWS, "provider_timeout": 30, **settings})

    yield make
    for endpoint in opened:
        endpoint.close()


def insert(docs: Steps, rows: int, *, after: int = 0, octets: int = BYTES_PER_ROW) -> None:
    docs.synced.run(WORDS.format(octets=octets, first=after + 1, last=after + rows))


def process(docs: Steps) -> Outcome:
    """Process a batch of either lane."""
    outcome = docs.process(Lane.BULK)
    assert outcome is not None
    return outcome


def batch(docs: Steps) -> int:
    """Process one batch, which must store every row; return the number of its requests."""
    docs.synced.endpoint.calls = Calls()
    outcome = process(docs)
    assert outcome.stored == outcome.claimed
    return docs.synced.endpoint.calls.requests


def learned(docs: Steps) -> Learned:
    return docs.synced.shape().pipeline.learned


@pytest.mark.parametrize(
    ("max_inputs", "status"),
    [pytest.param(32, 413, marks=pytest.mark.slow), (10, 422), pytest.param(100, 400, marks=pytest.mark.slow)],
)
def test_a_limit_of_inputs_is_found_in_a_few_batches_and_costs_nothing_any_more(
    calling: OpenLimited, max_inputs: int, status: int
) -> None:
    docs = calling(LimitedEndpoint(max_inputs=max_inputs, status=status))
    insert(docs, 5 * ROWS)
    for _ in range(3):
        process(docs)
    assert learned(docs).max_inputs == max_inputs
    rows = 0
    docs.synced.endpoint.calls = Calls()
    while outcome := docs.process(Lane.BULK):
        rows += outcome.stored
    assert docs.synced.endpoint.calls.requests <= 1.1 * rows / max_inputs
    docs.synced.exact()


def test_what_one_worker_has_learned_spares_the_others_the_search(
    calling: OpenLimited, worker: Callable[..., Steps]
) -> None:
    docs = calling(LimitedEndpoint(max_inputs=64))
    insert(docs, 256)
    assert batch(docs) > 4
    other = worker(provider_timeout=30)
    insert(other, 256, after=256)
    assert batch(other) <= 6, "four, and one that tries a larger size"


def test_one_bad_text_is_not_taken_for_a_limit(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    insert(docs, 64)
    docs.change(20, "poison")
    process(docs)
    assert docs.synced.dead() == [([20], "input_rejected")]
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.learned") == 0


def test_a_bad_text_among_many_is_found_in_spite_of_a_limit_and_both_are_known_then(calling: OpenLimited) -> None:
    docs = calling(LimitedEndpoint(max_inputs=32, status=400))
    docs.synced.endpoint.fail(status=400, marker="poison")
    insert(docs, 256)
    docs.change(20, "poison")
    outcome = process(docs)
    assert (outcome.stored, outcome.parked) == (255, 1)
    assert docs.synced.dead() == [([20], "input_rejected")]
    assert learned(docs).max_inputs is not None
    assert 28 <= (learned(docs).max_inputs or 0) <= 32


@pytest.mark.slow
def test_long_texts_are_limited_by_tokens_and_short_ones_by_inputs(calling: OpenLimited) -> None:
    docs = calling(LimitedEndpoint(max_inputs=100, max_request_tokens=20_000, status=400))
    insert(docs, ROWS, octets=100)
    process(docs)
    insert(docs, ROWS, after=ROWS, octets=1_600)  # 400 tokens each
    process(docs)
    known = learned(docs)
    assert 95 <= (known.max_inputs or 0) <= 100
    assert 70_000 <= (known.max_bytes or 0) <= 80_000
    insert(docs, 100, after=2 * ROWS, octets=1_600)
    assert batch(docs) <= 3
    insert(docs, 100, after=3 * ROWS, octets=100)
    assert batch(docs) <= 2


@pytest.mark.slow
def test_a_limit_that_was_lifted_is_noticed_after_a_while_and_forgotten(calling: OpenLimited) -> None:
    endpoint = LimitedEndpoint(max_inputs=32)
    docs = calling(endpoint)
    insert(docs, ROWS)
    process(docs)
    endpoint.max_inputs = None
    for round_ in range(1, 8):
        docs.synced.run("UPDATE pgvector_sync.learned SET retry_at = statement_timestamp()")
        insert(docs, ROWS, after=round_ * ROWS)
        process(docs)
    insert(docs, ROWS, after=8 * ROWS)
    assert batch(docs) == 1


def test_a_provider_without_limits_is_called_once_per_batch_and_leaves_no_row(docs: Steps) -> None:
    for round_ in range(3):
        insert(docs, 10 * (round_ + 1), after=100 * round_)
        assert batch(docs) == 1
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.learned") == 0


def test_of_two_batches_that_learn_at_the_same_time_the_first_counts(calling: OpenLimited) -> None:
    docs = calling(LimitedEndpoint(max_inputs=8))
    insert(docs, 64)

    def meanwhile() -> None:
        docs.synced.run(
            "INSERT INTO pgvector_sync.learned (provider, model, version, max_inputs, failed_trials, retry_at) "
            "SELECT provider, model, 1, 5, 0, statement_timestamp() FROM pgvector_sync.pipeline"
        )

    docs.process(during=meanwhile)
    assert (learned(docs).version, learned(docs).max_inputs) == (1, 5)


def test_a_change_of_the_provider_forgets_what_was_learned(calling: OpenLimited) -> None:
    docs = calling(LimitedEndpoint(max_inputs=8))
    insert(docs, 64)
    process(docs)
    assert learned(docs).max_inputs == 8
    with LimitedEndpoint() as endpoint:
        docs.synced.endpoint = endpoint
        docs.synced.apply()
        assert learned(docs) == Learned()


def test_status_and_doctor_show_what_was_learned_with_the_setting_to_write_down(
    calling: OpenLimited, typed: Callable[..., tuple[int, str, str]]
) -> None:
    docs = calling(LimitedEndpoint(max_inputs=8))
    assert "learned" not in typed("status")[1]
    insert(docs, 64)
    process(docs)
    assert "docs: learned: 8 inputs per request (providers.test.max_inputs = 8)" in typed("status")[1]
    [shown] = json.loads(typed("status", "--json")[1])["pipelines"]
    assert shown["learned"] == ["8 inputs per request"]
    assert shown["learned_settings"] == ["providers.test.max_inputs = 8"]
    checks = json.loads(typed("doctor", "--json", "--offline")[1])["checks"]
    [limits] = [check for check in checks if check["name"] == "limits"]
    assert limits["level"] == "ok"
    assert limits["seen"] == "learned: 8 inputs per request"
    assert limits["advice"] == "to know it from the start, write into [providers.test]: max_inputs = 8"


# -- a quota ---------------------------------------------------------------------------------------------------


def test_a_request_above_a_quota_is_made_smaller_instead_of_waiting_for_ever(calling: OpenLimited) -> None:
    docs = calling(LimitedEndpoint(max_request_tokens=10_000, status=429))  # 100 rows
    insert(docs, ROWS)
    process(docs)
    assert docs.state()[0] == State.COOLING_DOWN, "the first time it may be the rate"
    docs.end_backoffs()
    process(docs)
    assert docs.state() == (State.ACTIVE, None)
    process(docs)
    docs.synced.sync()
    assert docs.state() == (State.ACTIVE, None)
    assert 38_000 <= (learned(docs).max_bytes or 0) <= 40_000
    docs.synced.endpoint.calls = Calls()
    insert(docs, 5 * ROWS, after=ROWS)
    docs.synced.settle(runtime=docs.runtime)
    assert docs.synced.endpoint.calls.requests <= 1.1 * 5 * ROWS / 100 + 1


def test_a_rate_limit_makes_no_request_smaller(docs: Steps) -> None:
    for round_ in range(4):
        insert(docs, 64, after=round_ * 64)
        docs.synced.endpoint.fail(status=429, times=1)
        process(docs)
        docs.end_backoffs()
        docs.synced.settle()
    insert(docs, 64, after=1_000)
    assert batch(docs) == 1
    known = learned(docs)
    assert (known.max_inputs, known.max_bytes) == (None, None)


def test_a_provider_that_is_rate_limited_at_every_size_is_asked_a_few_times_and_costs_no_row(docs: Steps) -> None:
    insert(docs, 64)
    docs.synced.endpoint.fail(status=429)
    process(docs)
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'active', retry_at = NULL")
    process(docs)
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'active', retry_at = NULL")
    docs.synced.endpoint.calls = Calls()
    process(docs)
    assert docs.synced.endpoint.calls.requests == 1, "the search isn't repeated at once"
    assert docs.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]
    assert learned(docs).max_bytes is None


# -- time ------------------------------------------------------------------------------------------------------


@pytest.fixture
def serial(calling: OpenLimited) -> Steps:
    """A worker with time limits of 1 and 3 s, and a provider with one processor that embeds 100 texts per second."""
    return calling(SerialEndpoint(seconds_per_text=0.01), provider_timeout=1, deadline=3, lease=3)


def most_paid(endpoint: Endpoint) -> int:
    counts = Counter(endpoint.calls.bought)
    counts.pop(hashlib.sha256(b"pgvector-sync asks whether this model answers.").hexdigest(), None)
    return max(counts.values(), default=0)


@pytest.mark.slow
def test_a_slow_provider_gets_requests_that_it_answers_in_time(serial: Steps) -> None:
    insert(serial, 256)  # 2.6 s
    process(serial)
    assert serial.state()[0] == State.COOLING_DOWN
    known = learned(serial)
    assert known.parallel == 1
    assert known.bytes_per_second is not None
    endpoint = serial.synced.endpoint
    assert isinstance(endpoint, SerialEndpoint)
    serial.synced.settle(runtime=serial.runtime, seconds=30)
    assert serial.state() == (State.ACTIVE, None)
    assert most_paid(endpoint) <= 2, "the request that timed out, and the one that was answered"
    assert endpoint.computed <= 2 * 256 + 20
    serial.synced.exact()


def test_a_batch_for_a_slow_provider_has_as_many_rows_as_it_answers_in_a_third_of_the_time(serial: Steps) -> None:
    insert(serial, 256)
    serial.synced.run(
        "INSERT INTO pgvector_sync.learned "
        "(provider, model, version, bytes_per_second, slow_bytes, parallel, failed_trials, retry_at) "
        "SELECT provider, model, 1, 40000, 100000, 1, 0, 'infinity' FROM pgvector_sync.pipeline"
    )
    outcome = process(serial)
    assert 90 <= outcome.stored <= 110
    assert outcome.stored + outcome.released == outcome.claimed
    assert max(len(serial.synced.endpoint.calls.bodies), 3) <= 5
    assert serial.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]


def test_to_a_slow_provider_one_batch_is_in_flight_and_one_more_of_the_live_lane(serial: Steps) -> None:
    insert(serial, 10)
    serial.drain()
    serial.synced.run(
        "UPDATE pgvector_sync.work SET lane = 'bulk' WHERE key <> '[1]'",
        "UPDATE pgvector_sync.pipeline SET batch_size = 1",
        "INSERT INTO pgvector_sync.learned "
        "(provider, model, version, bytes_per_second, slow_bytes, parallel, failed_trials, retry_at) "
        "SELECT provider, model, 1, 40000, 100000, 1, 0, 'infinity' FROM pgvector_sync.pipeline",
    )
    assert serial.try_claim(Lane.BULK) is not None
    assert serial.try_claim(Lane.BULK) is None
    insert(serial, 1, after=10)
    serial.drain()
    assert serial.try_claim(Lane.LIVE) is not None
