"""A failure that one row causes, whatever its status, parks that row and doesn't stop the pipeline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.batch.bisection import PROBE_TEXT
from support.steps import Steps

ROWS = 30
FIREWALL = {
    "status": 403,
    "body": "<html><title>403 Forbidden</title></html>",
    "headers": {"Content-Type": "text/html"},
}
BLOCKED = {"status": 302, "body": "", "headers": {"Location": "https://firewall.example/blocked"}}


def with_one_poisoned(docs: Steps) -> None:
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")
    docs.change(7, "poison")


@pytest.mark.parametrize(
    "answer",
    [FIREWALL, BLOCKED, *({"status": status, "code": "odd"} for status in (401, 404, 405, 406, 410, 451))],
    ids=lambda answer: str(answer["status"]),
)
@pytest.mark.quick_variants(4)
def test_any_rejection_of_one_text_among_good_ones_parks_its_row_and_stops_nothing(
    docs: Steps, answer: dict[str, object]
) -> None:
    docs.synced.endpoint.fail(marker="poison", **answer)
    with_one_poisoned(docs)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (ROWS - 1, 1, 0)
    assert docs.state() == ("active", None)
    assert docs.synced.dead() == [([7], "input_rejected")]
    assert str(answer["status"]) in docs.work(7, "error_message")


@pytest.mark.parametrize(
    "answer", [FIREWALL, BLOCKED, {"status": 401}, {"status": 404}], ids=lambda answer: str(answer["status"])
)
def test_a_call_that_is_rejected_once_makes_no_dead_letter_of_the_row_that_it_was_for(
    docs: Steps, answer: dict[str, object]
) -> None:
    docs.synced.run("INSERT INTO docs VALUES (1, 'text')")
    docs.synced.endpoint.fail(times=1, **answer)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (1, 0, 0)
    assert docs.state() == ("active", None)


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        ({"status": 424, "code": "backend"}, "unavailable"),
        ({"kind": "error_with_200"}, "unavailable"),
        ({"kind": "html"}, "broken_contract"),
        ({"status": 200, "body": '{"data": []}'}, "broken_contract"),
    ],
    ids=["424", "error with 200", "page with 200", "no vectors"],
)
def test_a_failure_on_one_text_among_good_ones_parks_its_row_after_its_attempts_and_stops_nothing(
    docs: Steps, worker: Callable[..., Steps], answer: dict[str, object], error_class: str
) -> None:
    docs.synced.endpoint.fail(marker="poison", **answer)
    with_one_poisoned(docs)
    two = worker(attempts=2)
    outcome = two.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (ROWS - 1, 0, 0)
    docs.end_backoffs()
    two.process()
    assert docs.state() == ("active", None)
    assert docs.synced.dead() == [([7], error_class)]


def test_a_text_that_costs_more_than_the_credit_that_is_left_is_no_dead_letter(docs: Steps) -> None:
    """Otherwise an account that runs low would turn row after row into dead letters, the longest ones first."""
    docs.synced.endpoint.fail(status=402, code="insufficient_credits", marker="poison")
    with_one_poisoned(docs)
    docs.process()
    state, reason = docs.state()
    assert state == "misconfigured"
    assert str(reason).startswith("the provider account's quota is used up (402 insufficient_credits)")
    assert docs.synced.dead() == []
    assert docs.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]
    docs.synced.endpoint.heal()
    docs.end_backoffs()
    docs.synced.sync()


@pytest.mark.slow
def test_a_text_for_which_the_quota_never_suffices_starves_no_other(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    quick = worker(attempts=2, backoff_first=0.01)
    docs.synced.endpoint.fail(status=402, code="insufficient_credits", marker="poison")
    with_one_poisoned(docs)
    for _ in range(200):
        quick.end_backoffs()
        quick.process()
        if docs.synced.dead():
            break
    assert docs.synced.dead() == [([7], "quota_used_up")]
    quick.synced.settle(runtime=quick.runtime)
    assert len(docs.synced.vectors()) == ROWS - 1


def test_an_endpoint_that_embeds_only_the_first_text_of_a_request_gets_one_text_per_request(docs: Steps) -> None:
    docs.synced.endpoint.behave("one_vector_per_request")
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (ROWS, 0, 0)
    assert docs.state() == ("active", None)
    docs.synced.exact()


def test_the_same_rejection_of_every_text_stops_the_pipeline_and_parks_no_row(docs: Steps) -> None:
    docs.synced.endpoint.fail(**FIREWALL)
    docs.insert(_1="one", _2="two")
    docs.process()
    assert docs.state()[0] == "misconfigured"
    assert docs.synced.dead() == []


def test_a_rate_limit_that_hits_one_text_only_starves_no_other(docs: Steps, worker: Callable[..., Steps]) -> None:
    quick = worker(attempts=3, backoff_first=0.01)
    docs.synced.endpoint.fail(status=429, code="odd", marker="poison")
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")
    docs.change(1, "poison")
    for _ in range(100):
        quick.end_backoffs()
        quick.process()
        if docs.synced.dead():
            break
    assert docs.synced.dead() == [([1], "rate_limited")]
    quick.synced.settle(runtime=quick.runtime)
    assert len(docs.synced.vectors()) == ROWS - 1


def test_a_bad_row_at_the_head_of_the_live_lane_starves_no_row_behind_it(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="poison")
    docs.process()
    docs.synced.endpoint.heal()
    docs.synced.endpoint.fail(marker="poison", **FIREWALL)
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(2, {ROWS}) AS i")
    docs.end_backoffs()
    docs.process()
    assert docs.synced.dead() == [([1], "input_rejected")]
    assert docs.state() == ("active", None), "the harmless text has passed"
    docs.process()
    assert len(docs.synced.vectors()) == ROWS - 1


def test_a_probe_asks_the_harmless_text_first_and_sends_no_row_while_that_fails(docs: Steps) -> None:
    docs.synced.endpoint.fail("wrong_dimension")
    docs.insert(_1="one")
    docs.process()
    assert docs.state()[0] == "misconfigured"
    before = docs.synced.paid()
    for _ in range(5):
        docs.end_backoffs()
        docs.process()
    sent = docs.synced.endpoint.calls.sha256[before:]
    assert len(sent) == 5
    assert len(set(sent)) == 1, f"only {PROBE_TEXT!r}"
    docs.synced.endpoint.heal()
    docs.end_backoffs()
    docs.synced.sync()


@pytest.mark.parametrize("answer", [{"status": 429}, {"status": 503}, {"status": 401}])
def test_after_a_long_outage_the_next_probe_is_less_than_a_minute_away(
    docs: Steps, answer: dict[str, int]
) -> None:
    docs.synced.endpoint.fail(**answer)
    docs.insert(_1="one")
    docs.process()
    docs.synced.run("UPDATE pgvector_sync.pipeline SET failures = 50")
    docs.end_backoffs()
    docs.process()
    until = "SELECT extract(epoch FROM retry_at - statement_timestamp())::float8 FROM pgvector_sync.pipeline"
    assert 14 <= docs.synced.database.value(until) <= 45
