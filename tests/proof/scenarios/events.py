"""Scenarios of the application's changes, and how the drain handles them."""

from __future__ import annotations

import psycopg

from proof.arena import Arena, soon, writer
from proof.scenario import on_a_fresh_database, scenario

# -- the drain ---------------------------------------------------------------------------------------------


@scenario
def an_event_that_becomes_visible_late(arena: Arena) -> None:
    drain = arena.drain_of_loop
    with writer(arena) as slow:
        slow.execute("INSERT INTO docs VALUES (1, 'slow')")
        arena.insert(_2="quick")
        drain(until=soon())
        slow.commit()
    arena.covered()
    arena.at_rest()


@scenario
def a_row_that_is_due_since_before_the_last_search(arena: Arena) -> None:
    """As after a transaction that took long, or after the database's clock was set back."""
    arena.insert(_1="one")
    arena.process()
    arena.insert(_2="two")
    arena.drain()
    arena.application.execute("UPDATE pgvector_sync.work SET visible_at = visible_at - interval '1 minute'")
    assert arena.try_claim() is None, "the search didn't start where the last one had found a row"
    arena.at_rest()


@scenario
def drained_while_a_frozen_worker_holds_a_row(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.drain()
    with writer(arena) as frozen:
        frozen.execute("SELECT FROM pgvector_sync.work WHERE key = '[1]' FOR UPDATE")
        arena.change(1, "changed")
        arena.change(2, "changed")
        arena.drain()
        assert arena.work(2, "generation") == 2, "a locked row blocks another one"
        frozen.rollback()
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
    arena.at_rest()


@on_a_fresh_database  # where rows are stored in the order in which they were inserted
def keys_that_move_up_by_one(arena: Arena) -> None:
    arena.insert(_3="three", _2="two", _1="one")
    arena.at_rest()
    arena.sql("UPDATE docs SET id = id + 1")
    assert set(arena.synced.vectors()) >= {(2,), (3,)}, "a key that still exists has lost its vector"
    arena.at_rest()


@scenario
def a_delete_removes_its_vector(arena: Arena) -> None:
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
        # a slow worker has written the vector after the writer's snapshot
        arena.synced.run("UPDATE docs_embedding SET embedded_at = now()")
        try:
            slow.execute("DELETE FROM docs WHERE id = 1")
        except psycopg.errors.SerializationFailure:
            raise AssertionError("our trigger makes the application's delete fail") from None
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
def a_sweep_that_is_blocked(arena: Arena) -> None:
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
def a_row_inserted_again_before_the_sweep_reaches_it(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    arena.at_rest()
    arena.sql("TRUNCATE docs")
    with writer(arena) as other:
        other.execute("SELECT FROM docs_embedding WHERE id = 2 FOR UPDATE")
        arena.insert(_1="again")
        batch = arena.claim()  # the sweep is blocked
        arena.write(batch, arena.embed(batch))
        other.rollback()
    arena.drain()
    arena.at_rest()
