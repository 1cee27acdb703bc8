"""The rules by which the size of requests is learned, without a provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgvector_sync.embedding import learning
from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.learning import Size
from pgvector_sync.model.learned import LONGEST_WAIT, NOTHING_LEARNED, Learned, batches_at_once

CALL = timedelta(seconds=30)
LIMITS = Limits(max_inputs=2_048, parallel_requests=4)
QUICK = timedelta(milliseconds=10)
BYTES_PER_TEXT = 400


def texts(count: int) -> Size:
    return Size(count, count * BYTES_PER_TEXT)


def answered(known: Learned, count: int, took: timedelta = QUICK) -> Learned:
    return learning.answered(known, texts(count), took, CALL)


def ask(known: Learned, accepts: Callable[[Size], bool], *, by_quota: bool = False) -> tuple[Learned, int]:
    """One batch of 512 texts; returns what is known afterwards, and how many requests were refused."""
    limits = learning.limits_of(known, LIMITS, CALL)
    trial = learning.limits_of_trial(known, LIMITS, CALL) or limits
    size = texts(min(512, trial.max_inputs, (trial.max_request_bytes or 10**9) // BYTES_PER_TEXT))
    refusals = 0
    while not accepts(size):
        refusals += 1
        fits = texts(size.inputs // 2)
        if accepts(fits):
            return learning.refused(known, size, fits, by_quota=by_quota), refusals
        size = fits
    return learning.answered(known, size, QUICK, CALL), refusals


def settle(known: Learned, accepts: Callable[[Size], bool], *, by_quota: bool = False) -> tuple[Learned, int]:
    """Batches until nothing new is learned; returns what is known then, and how many requests were refused."""
    total = 0
    for _ in range(30):
        after, refusals = ask(known, accepts, by_quota=by_quota)
        total += refusals
        if after == known:
            return known, total
        known = after
    raise AssertionError(f"still learning after 30 batches: {known}")


@given(st.integers(1, 511))
def test_any_limit_of_inputs_is_found_to_within_a_twentieth_at_the_cost_of_a_few_refusals(limit: int) -> None:
    known, refusals = settle(NOTHING_LEARNED, lambda size: size.inputs <= limit)
    assert known.max_inputs is not None
    assert limit / 1.051 - 1 < known.max_inputs <= limit
    assert known.max_bytes is None
    assert refusals <= 15


@given(st.integers(1, 511))
def test_any_quota_is_found_as_a_limit_of_bytes(limit: int) -> None:
    known, refusals = settle(NOTHING_LEARNED, lambda size: size.octets <= limit * BYTES_PER_TEXT, by_quota=True)
    assert known.max_inputs is None
    assert known.max_bytes is not None
    assert limit / 1.06 - 1 < known.max_bytes / BYTES_PER_TEXT <= limit
    assert refusals <= 15


def test_a_provider_without_limits_teaches_nothing_that_has_to_be_stored() -> None:
    known = NOTHING_LEARNED
    for count in (1, 17, 512, 3):
        known = answered(known, count, timedelta(seconds=3))
    assert known == NOTHING_LEARNED


def test_bytes_are_the_reason_if_as_many_inputs_were_answered_before() -> None:
    known = Learned(max_inputs=50, refused_inputs=52)
    known = learning.refused(known, Size(50, 90_000), Size(25, 45_000))
    assert (known.max_inputs, known.max_bytes, known.refused_bytes) == (50, 45_000, 90_000)


def test_a_limit_that_was_lowered_replaces_the_one_that_was_known() -> None:
    known = Learned(max_bytes=80_000, refused_bytes=84_000)
    known = learning.refused(known, Size(100, 40_000), Size(50, 20_000), by_quota=True)
    assert (known.max_bytes, known.refused_bytes) == (20_000, 40_000)


def test_what_is_old_is_tried_again_at_twice_the_size_and_more_and_more_rarely_if_that_fails() -> None:
    known = Learned(max_inputs=32, refused_inputs=33)
    assert learning.limits_of_trial(known, LIMITS, CALL) is None
    waits = []
    for _ in range(14):
        waits.append(known.wait)
        trial = learning.limits_of_trial(replace(known, due=True), LIMITS, CALL)
        assert trial is not None
        assert trial.max_inputs == 64
        assert learning.was_refused(known, texts(64))
        known = learning.tried_in_vain(learning.refused(known, texts(64), texts(32)))
    assert known.max_inputs == 32
    assert waits[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert known.wait == LONGEST_WAIT


def test_a_limit_that_was_lifted_is_forgotten_after_a_few_doublings() -> None:
    known, sizes = Learned(max_inputs=32, refused_inputs=33, failed_trials=5, due=True), []
    while known.max_inputs is not None:
        trial = learning.limits_of_trial(known, LIMITS, CALL)
        assert trial is not None
        sizes.append(trial.max_inputs)
        known = replace(answered(known, trial.max_inputs), due=False)
    assert sizes == [64, 128, 256, 512, 1_024, 2_048]
    assert known == NOTHING_LEARNED


def test_what_was_learned_never_exceeds_the_limits_that_are_known() -> None:
    known = Learned(max_inputs=1_500, due=True)
    assert learning.limits_of(known, Limits(max_inputs=100), CALL).max_inputs == 100
    trial = learning.limits_of_trial(known, Limits(max_inputs=100), CALL)
    assert trial is not None
    assert trial.max_inputs == 100


# -- time ------------------------------------------------------------------------------------------------------


def in_time(known: Learned) -> float:
    """The number of texts per request."""
    octets = learning.limits_of(known, LIMITS, CALL).max_request_bytes
    assert octets is not None
    return octets / BYTES_PER_TEXT


def test_after_a_time_out_requests_take_a_fraction_of_the_limit_one_at_a_time() -> None:
    known = learning.timed_out(NOTHING_LEARNED, texts(512), CALL)
    assert 50 < in_time(known) < 100
    assert learning.limits_of(known, LIMITS, CALL).parallel_requests == 1
    assert known.parallel == 1


def test_one_time_out_that_had_another_reason_is_forgotten_with_the_first_answer() -> None:
    known = learning.timed_out(NOTHING_LEARNED, texts(512), CALL)
    known = answered(known, 60, timedelta(seconds=0.3))
    assert (known.bytes_per_second, known.parallel) == (None, None)


def test_the_first_answer_tells_how_large_requests_may_be() -> None:
    known = learning.timed_out(NOTHING_LEARNED, texts(512), CALL)
    known = answered(known, 80, timedelta(seconds=16))  # five per second
    assert round(in_time(known)) == 50
    assert answered(known, 50, timedelta(seconds=11)) == known, "ordinary fluctuations change nothing"
    assert round(in_time(answered(known, 50, timedelta(seconds=5)))) == 100


def test_a_time_out_that_had_another_reason_is_forgotten_with_the_first_quick_answers() -> None:
    known = learning.timed_out(NOTHING_LEARNED, texts(512), CALL)
    for _ in range(2):
        known = learning.timed_out(known, texts(5), CALL)
    assert in_time(known) < 1
    steps = 0
    while known.bytes_per_second is not None:
        known = answered(known, max(1, min(512, int(in_time(known)))), timedelta(seconds=0.3))
        steps += 1
    assert steps <= 12
    assert known.parallel is None


@pytest.mark.parametrize("hangs_from", [2, 5, 40, 200])
def test_texts_sent_in_vain_to_a_provider_that_hangs_on_large_requests_are_bounded(hangs_from: int) -> None:
    known, answered_texts, sent_in_vain = NOTHING_LEARNED, 0, 0
    for _ in range(500):
        octets = learning.limits_of(known, LIMITS, CALL).max_request_bytes
        count = 512 if octets is None else max(1, min(512, octets // BYTES_PER_TEXT))
        if count >= hangs_from:
            known = learning.timed_out(known, texts(count), CALL)
            sent_in_vain += count
        else:
            known = answered(known, count, timedelta(seconds=0.2))
            answered_texts += count
    assert sent_in_vain <= 2 * 512 + 3 * answered_texts


def test_a_single_text_that_gets_no_answer_teaches_nothing() -> None:
    assert learning.timed_out(NOTHING_LEARNED, texts(1), CALL) == NOTHING_LEARNED


def test_a_request_that_is_almost_too_slow_makes_the_next_ones_smaller_before_one_times_out() -> None:
    known = answered(NOTHING_LEARNED, 512, timedelta(seconds=20))
    assert 250 < in_time(known) < 260
    assert known.parallel is None


def test_more_requests_at_once_are_tried_after_a_while_and_given_up_if_they_only_make_each_slower() -> None:
    known = answered(learning.timed_out(NOTHING_LEARNED, texts(512), CALL), 80, timedelta(seconds=16))
    assert learning.more_at_once(known) == known
    two = learning.more_at_once(replace(known, due=True))
    assert two.parallel == 2
    slower = answered(two, 50, timedelta(seconds=20))
    assert (slower.parallel, slower.failed_trials) == (1, two.failed_trials + 1)


@pytest.mark.parametrize(("parallel", "within_a_batch"), [(1, 1), (8, 1), (16, 2)])
def test_a_provider_that_answers_requests_at_once_gets_as_many_as_before(
    parallel: int, within_a_batch: int
) -> None:
    known = Learned(bytes_per_second=10, parallel=parallel)
    assert learning.limits_of(known, LIMITS, CALL).parallel_requests == within_a_batch
    more = learning.more_at_once(replace(known, due=True))
    assert more.parallel == (parallel * 2 if parallel < 16 else None)


@pytest.mark.parametrize(
    ("parallel", "live", "batches"), [(None, False, 8), (1, False, 1), (1, True, 2), (16, False, 8)]
)
def test_a_slow_provider_has_fewer_batches_in_flight_and_one_more_for_live(
    parallel: int | None, live: bool, batches: int
) -> None:
    assert batches_at_once(8, parallel, live=live) == batches


# -- rate limits -----------------------------------------------------------------------------------------------


def test_a_rate_limit_is_taken_for_a_quota_only_if_waiting_did_not_help() -> None:
    assert not learning.tests_a_quota(NOTHING_LEARNED, texts(512))
    known = learning.rate_limited(NOTHING_LEARNED, texts(512))
    assert learning.tests_a_quota(known, texts(512))
    assert not learning.tests_a_quota(known, texts(1)), "a single text can't be sent in parts"
    assert not learning.tests_a_quota(answered(known, 256), texts(512)), "half as much was answered since"
    assert learning.tests_a_quota(answered(known, 1), texts(512)), "a probe says nothing about large requests"


def test_parts_that_are_rate_limited_as_well_are_tried_again_only_after_a_while() -> None:
    known = learning.tried_in_vain(learning.rate_limited(NOTHING_LEARNED, texts(512)))
    assert not learning.tests_a_quota(known, texts(512))
    assert learning.tests_a_quota(replace(known, due=True), texts(512))


# -- words -----------------------------------------------------------------------------------------------------


def test_what_was_learned_is_described_with_the_settings_to_write_down() -> None:
    known = Learned(max_inputs=32, max_bytes=80_000)
    assert known.words() == ["32 inputs per request", "about 20,000 tokens per request"]
    assert known.settings() == {"max_inputs": 32, "max_request_tokens": 20_000}
    slow = Learned(bytes_per_second=2_000, parallel=1)
    assert slow.words() == ["about 500 tokens per second", "1 request at once"]
    assert slow.settings() == {}
    assert learning.tokens_in_time(slow, CALL) == 5_000
    assert known.lines("tei") == ["providers.tei.max_inputs = 32", "providers.tei.max_request_tokens = 20000"]
    assert NOTHING_LEARNED.words() == []
