"""An outage is not a failure: rows wait with their attempts, the state says why, and it ends by itself."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from pgvector_sync.model import State
from pgvector_sync.operate.status import read_status
from pgvector_sync.store import pipelines
from steps import Steps

DOWN = "the provider failed (503 invalid_request_error)"


def waits_unharmed(docs: Steps, *keys: int) -> None:
    """Every row is in work, unleased, alive and due, with no attempt used up."""
    for key in keys:
        assert docs.work(key, "lease", "attempts", "parked_at", "error_class") == (None, 0, None, None)
    assert docs.synced.dead() == []


def test_a_provider_that_is_down_cools_the_pipeline_down_and_the_rows_keep_their_attempts(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one", _2="two")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (0, 0, 2)
    waits_unharmed(docs, 1, 2)
    assert docs.state() == (State.COOLING_DOWN, DOWN)
    [status] = read_status(docs.runtime.database)
    assert (status.state, status.waiting, status.dead) == (State.COOLING_DOWN, 2, 0)


def test_during_the_cool_down_nobody_calls_and_changes_still_wait_in_order(docs: Steps) -> None:
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


def test_a_rate_limit_waits_as_long_as_the_provider_asks(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=429, headers={"Retry-After": "77"})
    docs.insert(_1="one")
    docs.process()
    waits_unharmed(docs, 1)
    state, reason = docs.state()
    assert state == State.COOLING_DOWN
    assert reason is not None
    assert "rate" in reason
    wait = "SELECT extract(epoch FROM retry_at - now())::int FROM pgvector_sync.pipeline"
    assert 70 <= docs.synced.database.value(wait) <= 77


def test_a_refused_connection_is_an_outage_and_the_loop_recovers_by_itself(docs: Steps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    docs.synced.run(f"UPDATE pgvector_sync.provider SET base_url = 'http://127.0.0.1:{port}/v1'")
    docs.insert(_1="one", _2="two")
    docs.process()
    assert docs.state() == (State.COOLING_DOWN, "the connection to the provider failed")
    waits_unharmed(docs, 1, 2)
    docs.synced.run(f"UPDATE pgvector_sync.provider SET base_url = '{docs.synced.endpoint.base_url}'")
    docs.synced.sync()
    assert docs.state() == (State.ACTIVE, None)


def test_what_was_embedded_before_the_provider_failed_is_kept(docs: Steps) -> None:
    docs.insert(_1="known")
    docs.synced.sync()
    docs.synced.endpoint.fail(status=503)
    docs.insert(_2="known", _3="unknown")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.released) == (1, 1)
    assert docs.has_vector_of(2, "known")


def test_a_refused_key_makes_the_pipeline_misconfigured_and_resume_ends_it(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=401, code="invalid_api_key")
    docs.insert(_1="one", _2="two")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.parked, outcome.released) == (0, 2)
    waits_unharmed(docs, 1, 2)
    state, reason = docs.state()
    assert state == State.MISCONFIGURED
    assert reason is not None
    assert "TEST_KEY" in reason
    assert docs.try_claim() is None
    docs.synced.endpoint.heal()
    with docs.runtime.database.transaction() as connection:
        assert pipelines.resume(connection, "docs")
    docs.synced.sync()
    assert docs.state() == (State.ACTIVE, None)


def test_a_refused_key_ends_by_itself_when_a_probe_succeeds(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=401)
    docs.insert(_1="one", _2="two")
    docs.process()
    docs.synced.endpoint.heal()
    docs.synced.sync()  # waits out the 2 s
    assert docs.state() == (State.ACTIVE, None)


@pytest.mark.parametrize("kind", ["wrong_count", "nan", "zero", "wrong_dimension", "html"])
def test_answers_that_make_no_sense_are_never_written_and_use_up_no_attempt(docs: Steps, kind: str) -> None:
    docs.synced.endpoint.fail(kind)
    docs.insert(_1="one", _2="two")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (0, 0)
    assert docs.synced.vectors() == {}
    waits_unharmed(docs, 1, 2)
    state, reason = docs.state()
    assert state in (State.COOLING_DOWN, State.MISCONFIGURED)
    assert reason


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


def test_a_provider_that_goes_down_while_a_refused_text_is_looked_for_is_down_and_not_misconfigured(
    docs: Steps,
) -> None:
    docs.synced.endpoint.fail(status=400, times=1)
    docs.synced.endpoint.fail(status=503, headers={"Retry-After": "9"})
    docs.insert(_1="one", _2="two")
    docs.process()
    assert docs.state() == (State.COOLING_DOWN, DOWN)
    waits_unharmed(docs, 1, 2)
