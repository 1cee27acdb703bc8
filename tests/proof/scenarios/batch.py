"""Scenarios of one batch from claim to ack: changes in between, two workers, workers that die."""

from __future__ import annotations

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.read import read
from pgvector_sync.store import leases
from proof.arena import REFUSED, Arena, writer
from proof.meanwhile import before
from proof.scenario import scenario

# -- a change during the provider call ---------------------------------------------------------------------


@scenario
def changed_during_the_call(arena: Arena) -> None:
    arena.insert(_1="old")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.change(1, "new")
    arena.write(batch, prepared)
    assert not arena.has_vector_of(1, "old"), "a vector was written although the look showed that it was stale"
    arena.at_rest()


@scenario
def changed_and_drained_during_the_call(arena: Arena) -> None:
    arena.insert(_1="old")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.change(1, "new")
    arena.drain()
    arena.write(batch, prepared)
    arena.at_rest()


@scenario
def changed_and_drained_before_the_lock(arena: Arena) -> None:
    _changed_and_drained(arena, "lock")


@scenario
def changed_and_drained_before_the_look(arena: Arena) -> None:
    _changed_and_drained(arena, "look")


@scenario
def changed_and_drained_between_look_and_write(arena: Arena) -> None:
    _changed_and_drained(arena, "write")


@scenario
def changed_and_drained_between_write_and_ack(arena: Arena) -> None:
    _changed_and_drained(arena, "ack")


def _changed_and_drained(arena: Arena, step: str) -> None:
    arena.insert(_1="old")
    batch = arena.claim()
    prepared = arena.embed(batch)

    def change() -> None:
        arena.change(1, "new")
        arena.drain()

    with before(step, change):
        arena.write(batch, prepared)
    arena.at_rest()


@scenario
def changed_and_changed_back_during_the_call(arena: Arena) -> None:
    arena.insert(_1="old")
    batch = arena.claim()
    prepared = arena.embed(batch)
    for body in ("new", "old"):
        arena.change(1, body)
        arena.drain()
    arena.write(batch, prepared)
    arena.at_rest()


@scenario
def deleted_and_drained_between_look_and_write(arena: Arena) -> None:
    arena.insert(_1="text")
    batch = arena.claim()
    prepared = arena.embed(batch)

    def delete() -> None:
        arena.delete(1)
        arena.drain()

    with before("write", delete):
        arena.write(batch, prepared)
    arena.at_rest()


@scenario
def blank_after_it_had_a_vector(arena: Arena) -> None:
    arena.insert(_1="text")
    arena.at_rest()
    arena.change(1, "  ")
    arena.process()
    arena.at_rest()


@scenario
def refused_but_changed_and_drained_during_the_call(arena: Arena) -> None:
    arena.insert(_1=REFUSED)

    def change() -> None:
        arena.change(1, "harmless")
        arena.drain()

    arena.process(during=change)
    arena.at_rest()


@scenario
def a_dead_letter_gets_another_text(arena: Arena) -> None:
    arena.insert(_1=REFUSED)
    arena.process()
    assert arena.synced.dead() == [([1], "input_rejected")]
    arena.change(1, "harmless")
    arena.at_rest()


# -- two workers -------------------------------------------------------------------------------------------


@scenario
def a_late_worker_writes(arena: Arena) -> None:
    arena.insert(_1="text")
    late = arena.claim()
    prepared = arena.embed(late)
    arena.expire_leases()
    with arena.another() as second:
        batch = second.claim()
        lease = arena.lease()
        arena.write(late, prepared)
        assert arena.synced.vectors() == {}, "a worker wrote a row that another worker had claimed"
        assert arena.lease() == lease, "a late worker ended the lease of another worker"
        second.write(batch, second.embed(batch))
    arena.at_rest()


@scenario
def a_late_worker_gives_up(arena: Arena) -> None:
    arena.insert(_1="text")
    late = arena.claim()
    arena.expire_leases()
    with arena.another() as second:
        batch = second.claim()
        lease = arena.lease()
        arena.runtime.database.retry_on_lock_conflict(
            lambda connection: late.holding.release(connection, list(late.rows))
        )
        assert arena.lease() == lease, "a late worker released a row that another worker had claimed"
        second.write(batch, second.embed(batch))
    arena.at_rest()


@scenario
def a_late_worker_whose_row_has_left_work_and_come_back(arena: Arena) -> None:
    arena.insert(_1="first")
    late = arena.claim()
    prepared = arena.embed(late)
    arena.expire_leases()
    with arena.another() as second:
        arena.change(1, "second")
        second.process()
        arena.change(1, "third")
        second.claim()  # the row has its first generation again, as when the late worker claimed it
        arena.write(late, prepared)
    arena.at_rest()


@scenario
def two_workers_want_the_same_row(arena: Arena) -> None:
    arena.insert(_1="text")
    arena.claim()
    with arena.another() as second:
        assert second.try_claim() is None, "one row was claimed twice"
    arena.at_rest()


@scenario
def two_workers_claim_at_the_same_time(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.drain()
    with writer(arena) as other:  # another worker in the middle of its claim
        other.execute("SELECT FROM pgvector_sync.work WHERE key = '[1]' FOR UPDATE")
        try:
            batch = arena.try_claim()
        except psycopg.errors.LockNotAvailable:
            raise AssertionError("a claim waits for that of another worker") from None
        other.rollback()
    assert batch is not None
    assert set(batch.rows) == {(2,)}
    arena.at_rest()


# -- leases -------------------------------------------------------------------------------------------------


@scenario
def a_worker_whose_lease_is_lost_writes_before_its_rows_are_taken(arena: Arena) -> None:
    arena.insert(_1="text")
    late = arena.claim()
    prepared = arena.embed(late)
    arena.expire_leases()
    arena.write(late, prepared)
    assert arena.synced.vectors() == {}, "a worker wrote although its lease was lost"
    again = arena.claim()
    assert again.rows[(1,)].attempts == 2, "a paid attempt isn't counted"
    arena.write(again, arena.embed(again))
    arena.at_rest()


@scenario
def a_living_worker_renews_a_suspected_lease(arena: Arena) -> None:
    arena.insert(_1="text")
    batch = arena.claim()
    arena.sql("UPDATE pgvector_sync.lease SET expires_at = taken_at")
    _look(arena)
    with arena.another() as second:
        assert second.try_claim() is None, "a row was claimed before its worker could renew the lease"
    assert _renews(arena, batch)
    arena.write(batch, arena.embed(batch))
    arena.at_rest()


@scenario
def a_worker_renews_a_lease_that_is_lost(arena: Arena) -> None:
    arena.insert(_1="text")
    batch = arena.claim()
    arena.expire_leases()
    assert not _renews(arena, batch), "a lost lease was renewed"
    arena.at_rest()


def _look(arena: Arena) -> None:
    grace = arena.runtime.settings.grace
    arena.runtime.database.retry_on_lock_conflict(lambda connection: leases.expire(connection, grace=grace))


def _renews(arena: Arena, batch: Batch) -> bool:
    lease, after = batch.holding.lease, arena.runtime.settings.expires_after
    renewed = arena.runtime.database.retry_on_lock_conflict(
        lambda c: leases.renew(c, [lease], expires_after=after)
    )
    return lease in renewed


# -- workers that die --------------------------------------------------------------------------------------


@scenario
def a_row_that_kills_its_worker_and_is_changed_each_time(arena: Arena) -> None:
    arena.insert(_1="deadly")
    arena.drain()
    tried = 0
    while (batch := arena.try_claim()) is not None:
        tried += len(read(arena.runtime, batch).to_embed)
        assert tried <= arena.runtime.settings.attempts, "attempts aren't bounded"
        arena.expire_leases()
        arena.change(1, "harmless for a moment")
        arena.change(1, "deadly")
        arena.drain()
    assert tried == arena.runtime.settings.attempts


@scenario
def a_row_that_killed_its_worker_under_another_text(arena: Arena) -> None:
    arena.insert(_1="deadly")
    for _ in range(arena.runtime.settings.attempts - 1):
        read(arena.runtime, arena.claim())
        arena.expire_leases()
    arena.change(1, "harmless")
    read(arena.runtime, arena.claim())
    arena.expire_leases()  # the worker dies for a reason unrelated to the row
    assert arena.try_claim() is not None, "attempts with the previous content were counted"
    arena.at_rest()
