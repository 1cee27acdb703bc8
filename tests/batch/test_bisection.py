"""Bisection: what finding bad rows costs, that no other row waits for it, and that no row is parked for an outage."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from pgvector_sync.model import State
from support.steps import Steps
from support.waiting import within


def insert(docs: Steps, rows: int, *, poison: list[int]) -> None:
    """Rows 1 to `rows`; those in `poison` are marked so that the endpoint can tell them."""
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {rows}) AS i")
    docs.synced.run(f"UPDATE docs SET body = 'poison ' || id WHERE id = ANY ('{{{','.join(map(str, poison))}}}')")


def dead(docs: Steps) -> list[int]:
    return [key for [key], _ in docs.synced.dead()]


def only_dead_letters_remain(docs: Steps, keys: list[int]) -> None:
    """All others are embedded, exactly."""
    assert docs.in_work() == keys
    assert dead(docs) == keys
    docs.synced.run(f"DELETE FROM docs WHERE id = ANY ('{{{','.join(map(str, keys))}}}')")
    docs.synced.sync()


@pytest.mark.parametrize("poison", [[1], [256], [101], [77, 78], [10, 200], [1, 86, 171, 256]])
@pytest.mark.quick_variants(2)
def test_each_refused_row_costs_twice_the_logarithm_of_the_batch_and_all_others_pass(
    docs: Steps, poison: list[int]
) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    insert(docs, 256, poison=poison)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (256 - len(poison), len(poison), 0)
    # two requests per cut, one probe before the first cut, and one before each row is held responsible
    extra = docs.synced.endpoint.calls.requests - 1
    assert extra <= 2 * len(poison) * math.log2(256) + 1 + len(poison)
    only_dead_letters_remain(docs, poison)


@pytest.mark.parametrize(
    "how",
    [{"kind": "status", "status": 500}, {"kind": "reset"}, {"kind": "reset_mid_body"}, {"kind": "nan"}],
    ids=lambda how: how["kind"],
)
@pytest.mark.quick_variants(2)
def test_a_row_on_which_the_provider_always_fails_is_parked_after_its_attempts_and_holds_up_no_other(
    docs: Steps, worker: Callable[..., Steps], how: dict[str, object]
) -> None:
    docs.synced.endpoint.fail(marker="poison", **how)
    insert(docs, 32, poison=[20])
    two = worker(attempts=2)
    outcome = two.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (31, 0, 0)
    error_class = "broken_contract" if how["kind"] == "nan" else "unavailable"
    assert docs.work(20, "attempts", "error_class", "parked_at") == (1, error_class, None)
    docs.end_backoffs()
    outcome = two.process()
    assert outcome is not None
    assert outcome.parked == 1
    assert docs.state() == (State.ACTIVE, None)
    only_dead_letters_remain(docs, [20])


@pytest.fixture
def hurried(docs: Steps, worker: Callable[..., Steps]) -> Callable[..., Steps]:
    """Return a factory of workers whose connection is open already, and whose calls end after `provider_timeout` seconds."""

    def make(*, provider_timeout: float = 0.1, **settings: object) -> Steps:
        made = worker(provider_timeout=provider_timeout, **settings)
        pipeline = docs.synced.shape().pipeline
        made.runtime.embedder(pipeline.provider).embed(["hello"], pipeline.spec, deadline=within(5))
        docs.synced.endpoint.fail("hang", marker="poison")
        return made

    return make


@pytest.mark.parametrize("key", [1, 64])
def test_a_row_on_which_the_provider_hangs_is_found_in_one_pass_and_holds_up_no_other(
    docs: Steps, hurried: Callable[..., Steps], key: int
) -> None:
    insert(docs, 64, poison=[key])
    outcome = hurried(deadline=1.5).process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (63, 0, 0)
    assert docs.work(key, "attempts", "error_class") == (1, "unavailable")
    assert docs.work(key, "error_message") == "the provider did not answer in time"
    assert docs.state() == (State.ACTIVE, None)


@pytest.mark.slow
def test_rows_on_which_the_provider_hangs_are_parked_in_the_end_though_a_pass_has_time_for_few(
    docs: Steps, hurried: Callable[..., Steps]
) -> None:
    poison = [3, 17, 31, 42, 55]
    insert(docs, 64, poison=poison)
    once = hurried(provider_timeout=0.5, deadline=1.5, attempts=1)  # the ratio of the defaults
    passes = 0
    while dead(docs) != poison or docs.in_work() != poison:
        outcome = once.process()
        assert outcome is not None
        assert outcome.stored or outcome.parked, "no pass is in vain"
        alive = "SELECT DISTINCT attempts FROM pgvector_sync.work WHERE parked_at IS NULL"
        assert docs.synced.database.execute(alive) in ([], [(0,)]), "what was not reached keeps its attempts"
        assert docs.state() == (State.ACTIVE, None)
        passes += 1
    assert passes <= len(poison) + 1
    only_dead_letters_remain(docs, poison)


@pytest.mark.slow
def test_a_row_is_not_held_responsible_for_taking_longer_than_the_time_left_by_a_hanging_one(
    docs: Steps, hurried: Callable[..., Steps]
) -> None:
    once = hurried(provider_timeout=0.5, deadline=1.5, attempts=1)
    docs.synced.endpoint.fail("drip", marker="slow", seconds=0.2)
    insert(docs, 64, poison=[1])
    docs.change(2, "slow, but answered within half a timeout")
    outcome = once.process()
    assert outcome is not None
    assert dead(docs) == [1]
    assert docs.work(2, "attempts", "error_class") == (0, None)
    once.process()
    only_dead_letters_remain(docs, [1])


@pytest.mark.parametrize("deadline", [2.0, 0.5])
def test_a_provider_that_hangs_on_everything_is_an_outage_that_the_state_names(
    docs: Steps, hurried: Callable[..., Steps], deadline: float
) -> None:
    insert(docs, 8, poison=list(range(1, 9)))
    hanging = hurried(deadline=deadline)
    docs.synced.endpoint.fail("hang")
    outcome = hanging.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (0, 0, 8)
    assert docs.state() == (State.COOLING_DOWN, "the provider did not answer in time")
    assert docs.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]
    docs.synced.endpoint.heal()
    docs.end_backoffs()
    docs.synced.sync()


@pytest.mark.parametrize(
    ("after", "found"), [(0, []), (1, []), (2, [1]), (3, [1]), (5, [1]), (8, [1, 9])], ids=str
)
@pytest.mark.quick_variants(3)
def test_a_provider_that_begins_to_refuse_everything_in_mid_bisection_costs_no_row(
    docs: Steps, after: int, found: list[int]
) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.synced.endpoint.fail(status=400, after=after)
    insert(docs, 16, poison=[1, 9])
    docs.process()
    assert dead(docs) == found, "only those that were found before"
    state, reason = docs.state()
    assert state == State.MISCONFIGURED
    assert str(reason).startswith("the provider rejects every text (400 ")
    alive = "SELECT DISTINCT attempts FROM pgvector_sync.work WHERE parked_at IS NULL"
    assert docs.synced.database.execute(alive) == [(0,)]
    docs.synced.endpoint.heal()
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.end_backoffs()
    docs.synced.settle()
    only_dead_letters_remain(docs, [1, 9])


@pytest.mark.parametrize(("after", "requests"), [(0, 2), (1, 2 + 8 + 1)])
def test_an_outage_during_a_bisection_is_noticed_before_a_row_is_held_responsible(
    docs: Steps, after: int, requests: int
) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.synced.endpoint.fail(status=503, after=after, headers={"Retry-After": "9"})
    insert(docs, 256, poison=[1])
    docs.process()
    assert docs.state() == (State.COOLING_DOWN, "the provider failed (503 invalid_request_error)")
    assert docs.synced.endpoint.calls.requests <= requests
    assert docs.synced.database.execute("SELECT DISTINCT attempts, verdict FROM pgvector_sync.work") == [(0, None)]


def test_a_bisection_that_runs_out_of_time_keeps_what_it_has_releases_the_rest_and_is_no_outage(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.synced.endpoint.latency = 0.02
    insert(docs, 64, poison=list(range(1, 65, 2)))
    outcome = worker(deadline=0.4).process()
    assert outcome is not None
    assert outcome.stored > 0
    assert outcome.released > 0
    assert docs.state() == (State.ACTIVE, None)
    alive = "SELECT DISTINCT attempts FROM pgvector_sync.work WHERE parked_at IS NULL"
    assert docs.synced.database.execute(alive) == [(0,)]
