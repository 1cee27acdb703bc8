"""A row that changes while it is being embedded: the stale vector is never written, and the fresh one follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.steps import Steps


def test_a_row_changed_between_claim_and_read_is_embedded_as_it_is_now(docs: Steps) -> None:
    docs.insert(_1="old")
    batch = docs.claim()
    docs.change(1, "new")
    written = docs.write(batch, docs.embed(batch))
    assert written.stored == {(1,)}
    assert docs.has_vector_of(1, "new")
    docs.synced.sync()
    assert docs.synced.paid() == 1


def test_a_row_changed_during_the_call_is_superseded_and_embedded_again(docs: Steps) -> None:
    docs.insert(_1="old", _2="other")
    outcome = docs.process(during=lambda: docs.change(1, "new"))
    assert outcome is not None
    assert (outcome.stored, outcome.superseded) == (1, 1)
    assert set(docs.synced.vectors()) == {(2,)}
    assert docs.work(1, "lease", "attempts") == (None, 1), "the event has not been drained yet, and might never be"
    docs.synced.sync()
    assert docs.has_vector_of(1, "new")


def test_a_row_changed_and_drained_during_the_call_is_superseded_by_its_generation(docs: Steps) -> None:
    docs.insert(_1="old")

    def change_there_and_back() -> None:
        docs.change(1, "new")
        docs.drain()
        docs.change(1, "old")  # the fingerprint alone would let it pass; the generation does not
        docs.drain()

    outcome = docs.process(during=change_there_and_back)
    assert outcome is not None
    assert (outcome.stored, outcome.superseded) == (0, 1)
    assert docs.synced.vectors() == {}
    docs.synced.sync()
    assert docs.has_vector_of(1, "old")


def test_a_drain_between_read_and_write_keeps_the_lease_and_takes_the_write(docs: Steps) -> None:
    docs.insert(_1="old")
    batch = docs.claim()
    prepared = docs.embed(batch)
    lease, generation = docs.work(1, "lease", "generation")
    docs.change(1, "new")
    docs.drain()
    assert docs.work(1, "lease", "generation") == (lease, generation + 1)
    written = docs.write(batch, prepared)
    assert written.superseded == {(1,)}
    assert docs.synced.vectors() == {}
    docs.synced.sync()


def test_a_replaced_text_keeps_its_old_vector_until_the_new_one_is_there(docs: Steps) -> None:
    docs.insert(_1="first")
    docs.synced.sync()
    docs.change(1, "second")
    outcome = docs.process(during=lambda: docs.change(1, "third"))
    assert outcome is not None
    assert outcome.superseded == 1
    assert docs.has_vector_of(1, "first")
    docs.synced.sync()
    assert docs.has_vector_of(1, "third")


def test_a_row_deleted_during_the_call_leaves_nothing(docs: Steps) -> None:
    docs.insert(_1="text", _2="other")
    outcome = docs.process(during=lambda: docs.delete(1))
    assert outcome is not None
    assert (outcome.stored, outcome.absent) == (1, 1)
    assert set(docs.synced.vectors()) == {(2,)}
    docs.synced.sync()
    assert docs.in_work() == []


def test_a_row_deleted_and_inserted_again_during_the_call_gets_the_new_vector(docs: Steps) -> None:
    docs.insert(_1="before")

    def replace() -> None:
        docs.delete(1)
        docs.insert(_1="after")

    outcome = docs.process(during=replace)
    assert outcome is not None
    assert outcome.stored == 0
    docs.synced.sync()
    assert docs.has_vector_of(1, "after")


def test_a_row_superseded_again_and_again_backs_off_from_the_second_time_on(docs: Steps) -> None:
    docs.insert(_1="text 0")
    due = "visible_at <= statement_timestamp()"
    delays = []
    for turn in range(1, 4):
        docs.end_backoffs()
        outcome = docs.process(during=lambda turn=turn: docs.change(1, f"text {turn}"))
        assert outcome is not None
        assert outcome.superseded == 1
        delays.append(round(docs.work(1, "extract(epoch FROM visible_at - statement_timestamp())::float8")))
        if turn > 1:
            docs.drain()  # the change that superseded it must not pull it forward
            assert not docs.work(1, due)
    assert delays == [0, 2, 4]
    assert docs.work(1, "attempts") == 1, "another content has attempts of its own"
    docs.end_backoffs()
    docs.synced.sync()


def test_a_late_worker_whose_lease_ran_out_writes_nothing(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.insert(_1="first")
    late = docs.claim()
    prepared = docs.embed(late)
    docs.expire_leases()
    docs.change(1, "second")
    second = worker()
    assert second.process() is not None
    assert docs.has_vector_of(1, "second")
    written = docs.write(late, prepared)
    assert written.acknowledged == 0
    assert docs.has_vector_of(1, "second")
    docs.synced.sync()


def test_a_late_worker_doesnt_take_away_the_other_ones_lease(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.insert(_1="text")
    late = docs.claim()
    late_prepared = docs.embed(late)
    docs.expire_leases()
    second = worker()
    batch = second.claim()
    prepared = second.embed(batch)
    lease = docs.lease()
    assert docs.write(late, late_prepared).superseded == {(1,)}
    assert docs.synced.vectors() == {}
    assert docs.lease() == lease
    assert second.write(batch, prepared).stored == {(1,)}
    docs.synced.sync()


def test_a_worker_that_comes_twice_writes_once(docs: Steps) -> None:
    docs.insert(_1="text")
    batch = docs.claim()
    prepared = docs.embed(batch)
    assert docs.write(batch, prepared).stored == {(1,)}
    docs.change(1, "newer")
    docs.synced.settle()
    assert docs.write(batch, prepared).acknowledged == 0
    assert docs.has_vector_of(1, "newer")
    docs.synced.sync()


@pytest.mark.parametrize(
    "fence",
    [
        "spec_version = spec_version + 1",
        "state = 'paused'",
        "state = 'removing'",
    ],
)
def test_a_pipeline_changed_paused_or_removed_since_the_claim_gets_no_write(docs: Steps, fence: str) -> None:
    docs.insert(_1="text")
    batch = docs.claim()
    prepared = docs.embed(batch)
    docs.synced.run(f"UPDATE pgvector_sync.pipeline SET {fence}")
    written = docs.write(batch, prepared)
    assert written.acknowledged == 0
    assert docs.synced.vectors() == {}
    assert docs.work(1, "lease", "attempts") == (None, 0)
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'active'")
    docs.synced.sync()


def test_a_paused_or_removed_pipeline_is_not_claimed(docs: Steps) -> None:
    docs.insert(_1="text")
    docs.drain()
    for state in ("paused", "removing"):
        docs.synced.run(f"UPDATE pgvector_sync.pipeline SET state = '{state}'")
        assert docs.try_claim() is None
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'active'")
    assert docs.try_claim() is not None
