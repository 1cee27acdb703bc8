"""Directed scenarios: each goes where one defence of the protocol is needed, and passes on the protocol as it is.

A scenario's own assertions are about what coverage and witness don't see: cost, waiting, attempts, a lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg

from pgvector_sync.model import Lane
from pgvector_sync.store import pipelines
from pgvector_sync.sync import fill
from pgvector_sync.sync.batch.read import read
from pgvector_sync.sync.batch.write import write
from proof.arena import REFUSED, Arena, before, soon, writer
from synced import OURS, role

Scenario = Callable[[Arena], None]
S = TypeVar("S", bound=Scenario)

SCENARIOS: dict[str, Scenario] = {}
FRESH: set[str] = set()
"""Those that change the pipeline or its source, and so need a database of their own."""


def scenario(function: S) -> S:
    SCENARIOS[function.__name__.replace("_", " ")] = function
    return function


def on_a_fresh_database(function: S) -> S:
    FRESH.add(function.__name__.replace("_", " "))
    return scenario(function)


# -- a change while its row is at the provider -------------------------------------------------------------


@scenario
def changed_during_the_call(arena: Arena) -> None:
    arena.insert(_1="old")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.change(1, "new")
    arena.write(batch, prepared)
    assert not arena.has_vector_of(1, "old"), "a vector was written that was stale at the look"
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
def changed_there_and_back_during_the_call(arena: Arena) -> None:
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
        assert arena.synced.vectors() == {}, "written by a worker whose lease was another's by then"
        assert arena.lease() == lease, "a late worker took the other one's lease away"
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
        arena.runtime.database.patiently(lambda connection: late.holding.release(connection, list(late.rows)))
        assert arena.lease() == lease, "a late worker gave back what was the other one's"
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
        second.claim()  # a row of its first generation again, as the late worker's was
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
            raise AssertionError("a claim waits for another worker's") from None
        other.rollback()
    assert batch is not None
    assert set(batch.rows) == {(2,)}
    arena.at_rest()


# -- workers that die --------------------------------------------------------------------------------------


@scenario
def a_row_that_kills_its_worker_and_is_changed_each_time(arena: Arena) -> None:
    arena.insert(_1="deadly")
    arena.drain()
    tried = 0
    while (batch := arena.try_claim()) is not None:
        tried += len(read(arena.runtime, batch).to_embed)
        assert tried <= arena.runtime.settings.attempts, "attempts are without a bound"
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
    arena.expire_leases()  # a kill that has nothing to do with the row
    assert arena.try_claim() is not None, "attempts of one content count for the next"
    arena.at_rest()


# -- the drain ---------------------------------------------------------------------------------------------


@scenario
def an_event_that_becomes_visible_late(arena: Arena) -> None:
    drain = arena.loop._drain
    with writer(arena) as slow:
        slow.execute("INSERT INTO docs VALUES (1, 'slow')")
        arena.insert(_2="quick")
        drain(until=soon())
        slow.commit()
    arena.covered()
    arena.at_rest()


@scenario
def drained_while_the_provider_is_down(arena: Arena) -> None:
    arena.synced.run("UPDATE pgvector_sync.pipeline SET state = 'cooling_down', retry_at = now()")
    arena.insert(_1="text")
    arena.drain()
    arena.at_rest()


@scenario
def two_drains_at_once(arena: Arena) -> None:
    arena.insert(_1="one")
    with writer(arena) as other:  # another drain in the middle of its transaction
        other.execute("SELECT FROM pgvector_sync.outbox FOR UPDATE")
        arena.insert(_2="two")
        arena.drain()
        other.rollback()
    arena.at_rest()


# -- deletes, key changes and TRUNCATE ---------------------------------------------------------------------


@scenario
def a_changed_key(arena: Arena) -> None:
    arena.insert(_1="text")
    arena.at_rest()
    arena.sql("UPDATE docs SET id = 10")
    assert set(arena.synced.vectors()) <= {(10,)}, "the old key's vector is still there"
    arena.at_rest()


@scenario
def keys_that_move_up_by_one(arena: Arena) -> None:
    arena.insert(_3="three", _2="two", _1="one")
    arena.at_rest()
    arena.sql("UPDATE docs SET id = id + 1")
    assert set(arena.synced.vectors()) == {(2,), (3,)}, "a key that lives has lost its vector"
    arena.at_rest()


@scenario
def a_delete_takes_its_vector_along(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.at_rest()
    arena.delete(1)
    assert set(arena.synced.vectors()) == {(2,)}, "a deleted row's vector is still there"
    arena.at_rest()


@scenario
def a_delete_under_repeatable_read(arena: Arena) -> None:
    arena.insert(_1="old")
    arena.at_rest()
    with writer(arena) as slow:
        slow.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        slow.execute("SELECT FROM docs")
        # the worker was late: its vector is younger than the writer's snapshot
        arena.synced.run("UPDATE docs_embedding SET embedded_at = now()")
        try:
            slow.execute("DELETE FROM docs WHERE id = 1")
        except psycopg.errors.SerializationFailure:
            raise AssertionError("the application's delete dies of our trigger") from None
        slow.commit()
    arena.covered()
    arena.at_rest()


@scenario
def truncated(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.at_rest()
    arena.sql("TRUNCATE docs")
    arena.at_rest()


@scenario
def a_sweep_that_is_held_up(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.at_rest()
    arena.sql("TRUNCATE docs")
    with writer(arena) as other:
        other.execute("SELECT FROM docs_embedding WHERE id = 1 FOR UPDATE")
        arena.drain()
        other.rollback()
    arena.covered()
    arena.at_rest()


@scenario
def a_row_inserted_again_before_the_sweep_comes_by(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.at_rest()
    arena.sql("TRUNCATE docs")
    with writer(arena) as other:
        other.execute("SELECT FROM docs_embedding WHERE id = 2 FOR UPDATE")
        arena.insert(_1="again")
        batch = arena.claim()  # the sweep is held up
        arena.write(batch, arena.embed(batch))
        other.rollback()
    arena.drain()
    arena.at_rest()


# -- apply and fill ----------------------------------------------------------------------------------------


@on_a_fresh_database
def applied_during_the_call(arena: Arena) -> None:
    arena.sql("INSERT INTO docs VALUES (1, 'text', 'note')")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.apply(text=["body", "note"])
    _fill(arena)
    write(arena.runtime, batch, prepared)
    arena.covered()
    arena.at_rest()


@on_a_fresh_database
def a_row_inserted_while_triggers_are_installed(arena: Arena) -> None:
    arena.synced.remove()
    arena.insert_unwatched(1)

    def meanwhile() -> None:
        _fill(arena)
        arena.insert_unwatched(2)

    arena.synced.declare()
    with before("install", meanwhile):
        arena.synced.apply()
    arena.watch()
    arena.covered()
    arena.at_rest()


@on_a_fresh_database
def killed_in_the_middle_of_a_page(arena: Arena) -> None:
    arena.sql("INSERT INTO docs VALUES (1, 'one', 'note'), (2, 'two', 'note')")
    arena.at_rest()
    arena.apply(text=["body", "note"])

    def kill() -> None:
        raise KeyboardInterrupt

    try:
        with before("enqueue", kill):
            _fill(arena)
    except KeyboardInterrupt:
        pass
    arena.covered()
    arena.at_rest()


@on_a_fresh_database
def a_fill_comes_by_a_row_that_is_being_embedded(arena: Arena) -> None:
    arena.insert(_1="one")
    arena.drain()
    arena.apply(text=["body", "note"])
    batch = arena.claim()
    _fill(arena)
    with arena.another() as second:
        taken = [second.try_claim(lane) for lane in Lane]
    assert taken == [None, None], "a fill has taken a row away from its worker"
    arena.write(batch, arena.embed(batch))
    arena.at_rest()


def _fill(arena: Arena) -> None:
    for (run_id,) in arena.observer.execute("SELECT id FROM pgvector_sync.run WHERE state = 'running'").fetchall():
        fill.carry_out(arena.runtime, run_id, until=soon())


# -- what counts as a change, and as a row -----------------------------------------------------------------


@on_a_fresh_database
def a_number_that_is_only_written_differently(arena: Arena) -> None:
    arena.apply(text=["body", "price"])
    arena.sql("INSERT INTO docs VALUES (1, 'text', NULL, 1.0)")
    arena.at_rest()
    arena.sql("UPDATE docs SET price = 1.00")
    arena.at_rest()


@on_a_fresh_database
def rows_that_row_level_security_hides(arena: Arena) -> None:
    arena.insert(_1="text")
    arena.at_rest()
    grants = (*OURS, "GRANT SELECT ON docs TO {role}", "GRANT ALL ON docs_embedding TO {role}")
    with role(arena.synced.database, "worker", *grants) as worker:
        arena.sql("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        arena.change(1, "changed")
        with arena.synced.acting_as(worker) as runtime:
            blind = Arena(arena.synced, runtime, checks=False)
            blind.drain()
            blind.process()
        assert set(arena.synced.vectors()) == {(1,)}, "a row that can't be read was taken for a deleted one"
        arena.covered()


@scenario
def a_paused_pipeline(arena: Arena) -> None:
    arena.insert(_1="text")
    batch = arena.claim()
    prepared = arena.embed(batch)
    with arena.runtime.database.transaction() as connection:
        pipelines.pause(connection, "docs", None)
    arena.write(batch, prepared)
    assert arena.synced.vectors() == {}, "written for a pipeline that is paused"
    assert arena.try_claim(Lane.LIVE) is None
    with arena.runtime.database.transaction() as connection:
        pipelines.resume(connection, "docs")
    arena.at_rest()
