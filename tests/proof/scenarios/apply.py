"""Scenarios of apply and backfill, and of what counts as a change and as a row."""

from __future__ import annotations

from pgvector_sync.batch.write import write
from pgvector_sync.model import Lane
from pgvector_sync.runs import run
from pgvector_sync.store import pipelines
from proof.arena import Arena, soon
from proof.meanwhile import before
from proof.scenario import on_a_fresh_database, scenario
from support.synced import OURS, role

# -- apply and backfill ----------------------------------------------------------------------------------------


@on_a_fresh_database
def applied_during_the_call(arena: Arena) -> None:
    arena.sql("INSERT INTO docs VALUES (1, 'text', 'note')")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.apply(text=["body", "note"])
    _backfill(arena)
    write(arena.runtime, batch, prepared)
    arena.covered()
    arena.at_rest()


@on_a_fresh_database
def a_row_inserted_while_triggers_are_installed(arena: Arena) -> None:
    arena.synced.remove()
    arena.insert_unwatched(1)

    def meanwhile() -> None:
        _backfill(arena)
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
            _backfill(arena)
    except KeyboardInterrupt:
        pass
    arena.covered()
    arena.at_rest()


@on_a_fresh_database
def a_backfill_reaches_a_row_that_is_being_embedded(arena: Arena) -> None:
    arena.insert(_1="one")
    arena.drain()
    arena.apply(text=["body", "note"])
    batch = arena.claim()
    _backfill(arena)
    with arena.another() as second:
        taken = [second.try_claim(lane) for lane in Lane]
    assert taken == [None, None], "a backfill took a row away from its worker"
    written = arena.write(batch, arena.embed(batch))
    assert written.stored == {(1,)}, "a backfill made a worker discard its answer"
    arena.at_rest()


def _backfill(arena: Arena) -> None:
    for (run_id,) in arena.observer.execute("SELECT id FROM pgvector_sync.run WHERE state = 'running'").fetchall():
        run.carry_out(arena.runtime, run_id, until=soon())


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
        assert set(arena.synced.vectors()) == {(1,)}, "a row that can't be read was treated as deleted"
        arena.covered()


@scenario
def a_paused_pipeline(arena: Arena) -> None:
    arena.insert(_1="text")
    batch = arena.claim()
    prepared = arena.embed(batch)
    with arena.runtime.database.transaction() as connection:
        pipelines.pause(connection, "docs", None)
    arena.write(batch, prepared)
    assert arena.synced.vectors() == {}, "a vector was written for a paused pipeline"
    assert arena.try_claim(Lane.LIVE) is None
    with arena.runtime.database.transaction() as connection:
        pipelines.resume(connection, "docs")
    arena.at_rest()
