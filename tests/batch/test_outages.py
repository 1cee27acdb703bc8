"""An outage is not a failure: what waits for what, and how it ends. Messages are tested in test_failure_classes.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.model import State
from pgvector_sync.store import pipelines
from support.steps import Steps

DOWN = "the provider failed (503 invalid_request_error)"


def waits_unharmed(docs: Steps, *keys: int) -> None:
    """Assert that every row is in work and due, not leased or parked, with no attempt used up."""
    for key in keys:
        assert docs.work(key, "lease", "attempts", "parked_at", "error_class") == (None, 0, None, None)
    assert docs.synced.dead() == []


def test_during_the_cool_down_no_worker_calls_and_changes_still_wait_in_order(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one")
    docs.process()
    requests = docs.synced.endpoint.calls.requests
    docs.insert(_2="two")
    docs.drain()
    assert docs.try_claim() is None
    assert docs.synced.endpoint.calls.requests == requests


def test_one_worker_probes_with_one_row_while_the_others_wait(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one", _2="two", _3="three")
    docs.process()
    docs.end_backoffs()
    probe = docs.try_claim()
    assert probe is not None
    assert (len(probe.rows), probe.probe) == (1, True)
    assert worker().try_claim() is None


def test_a_probe_that_succeeds_ends_the_cool_down(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one", _2="two", _3="three")
    docs.process()
    docs.synced.endpoint.heal()
    docs.end_backoffs()
    outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 1
    assert docs.state() == (State.ACTIVE, None)
    docs.synced.sync()


def test_a_probe_that_fails_waits_longer_and_costs_no_attempt(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=429, headers={"Retry-After": "1000"})
    docs.insert(_1="one", _2="two")
    docs.process()
    docs.synced.endpoint.heal()
    docs.synced.endpoint.fail(status=503, headers={"Retry-After": "2000"})
    docs.end_backoffs()
    docs.process()
    assert docs.state() == (State.COOLING_DOWN, DOWN)
    waits_unharmed(docs, 1, 2)
    wait = "SELECT extract(epoch FROM retry_at - now())::int, failures FROM pgvector_sync.pipeline"
    seconds, failures = docs.synced.database.execute(wait)[0]
    assert 1_900 < seconds <= 2_000
    assert failures == 2


def test_what_was_embedded_before_the_provider_failed_is_kept(docs: Steps) -> None:
    docs.insert(_1="known")
    docs.synced.sync()
    docs.synced.endpoint.fail(status=503)
    docs.insert(_2="known", _3="unknown")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.released) == (1, 1)
    assert docs.has_vector_of(2, "known")


@pytest.mark.parametrize("status", [401, 503])
def test_resume_ends_it_at_once(docs: Steps, status: int) -> None:
    docs.synced.endpoint.fail(status=status)
    docs.insert(_1="one", _2="two")
    docs.process()
    assert docs.try_claim() is None
    docs.synced.endpoint.heal()
    with docs.runtime.database.transaction() as connection:
        assert pipelines.resume(connection, "docs")
    docs.synced.sync()
    assert docs.state() == (State.ACTIVE, None)


@pytest.mark.parametrize("status", [401, 503])
def test_it_ends_by_itself_when_a_probe_succeeds(docs: Steps, worker: Callable[..., Steps], status: int) -> None:
    docs.synced.endpoint.fail(status=status, code="no")
    docs.insert(_1="one", _2="two")
    impatient = worker(backoff_first=0.1)
    impatient.process()
    docs.synced.endpoint.heal()
    docs.synced.settle(runtime=impatient.runtime)
    docs.synced.exact()
    assert docs.state() == (State.ACTIVE, None)


def test_a_pause_outlives_a_failing_provider(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one")

    def pause() -> None:
        with docs.runtime.database.transaction() as connection:
            pipelines.pause(connection, "docs", "maintenance")

    docs.process(during=pause)
    assert docs.state() == (State.PAUSED, "maintenance")
    waits_unharmed(docs, 1)


def test_many_batches_that_fail_at_once_count_as_one_failure(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.synced.endpoint.fail(status=503, headers={"Retry-After": "5"})
    docs.insert(_1="one")
    first = docs.claim()
    docs.insert(_2="two")
    docs.process()
    docs.write(first, [])
    assert docs.synced.database.value("SELECT failures FROM pgvector_sync.pipeline") == 1
