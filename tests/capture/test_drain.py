"""From the outbox into work: one drain at a time, and a key that doesn't fit."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgvector_sync.capture.drain import Drain
from pgvector_sync.observe.status import read_status
from pgvector_sync.store import locks
from support.steps import Steps
from support.synced import Synced, session
from support.waiting import eventually, within


def drain_once(docs: Steps, limit: int = 1_000) -> int:
    return Drain(docs.runtime.database, limit)(until=within(10))


def test_many_events_of_a_key_become_one_work_row_with_the_age_of_the_first(docs: Steps) -> None:
    docs.insert(_1="one")
    for turn in range(5):
        docs.change(1, f"text {turn}")
    first = docs.synced.database.value("SELECT min(at) FROM pgvector_sync.outbox")
    assert drain_once(docs) == 6
    assert docs.work(1, "waiting_since", "generation", "lane") == (first, 1, "live")
    docs.change(1, "later")
    assert drain_once(docs) == 1
    assert docs.work(1, "waiting_since", "generation") == (first, 2)


def test_one_event_serves_every_pipeline_of_its_source(docs: Steps) -> None:
    docs.synced.declare("notes", text=["note"])
    docs.synced.apply()
    docs.synced.sync()
    docs.synced.run("INSERT INTO docs VALUES (1, 'body', 'note')")
    assert drain_once(docs) == 1
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.work") == 2
    docs.synced.sync()


def test_a_second_drain_steps_aside(docs: Steps) -> None:
    docs.insert(_1="one")
    with docs.runtime.database.transaction() as connection:
        assert locks.try_lock_drain(connection)
        assert drain_once(docs) == 0
        docs.covered()
    assert drain_once(docs) == 1


def test_an_event_that_becomes_visible_late_is_not_missed_by_the_hint(docs: Steps) -> None:
    drain = Drain(docs.runtime.database, 1_000)
    with session(docs.synced.database) as late:
        late.execute("INSERT INTO docs VALUES (1, 'began first')")
        docs.insert(_2="committed first")
        assert drain(until=within(5)) == 1
        late.commit()
    docs.covered()
    eventually(lambda: drain(until=within(5)) == 1, what="the full look finds the earlier id")
    docs.synced.sync()


def test_events_in_slices_are_moved_to_the_last_one(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 95) AS i")
    assert drain_once(docs, limit=10) == 95
    assert docs.synced.events() == []
    docs.synced.sync()


# -- work rows that are locked --------------------------------------------------------------------------------


@contextmanager
def locked(docs: Steps, *keys: int) -> Iterator[None]:
    """Within this block a worker that is frozen in its write holds the work rows of these keys."""
    with session(docs.synced.database) as frozen:
        query = "SELECT FROM pgvector_sync.work WHERE (key ->> 0)::int = ANY (%s) FOR UPDATE"
        assert frozen.execute(query, [list(keys)]).rowcount == len(keys)
        yield
        frozen.rollback()


def test_events_of_locked_work_rows_stay_and_all_others_move(docs: Steps) -> None:
    docs.insert(_1="one", _2="two")
    docs.drain()
    drain = Drain(docs.runtime.database, 1_000)
    with locked(docs, 1):
        docs.change(1, "changed")
        docs.change(2, "changed")
        docs.change(1, "changed again")
        docs.insert(_3="three")
        began = time.monotonic()
        assert drain(until=within(5)) == 2
        assert time.monotonic() - began < 1, "the drain waited for a lock"
        assert docs.synced.events() == [[1], [1]]
        docs.covered()
        assert drain(until=within(5)) == 0
    assert drain(until=within(5)) == 2, "by the next drain, not by the next look at all of it"
    assert docs.work(1, "generation") == 2
    docs.synced.sync()


def test_more_events_of_locked_rows_than_a_slice_holds_keep_no_other_from_moving(docs: Steps) -> None:
    docs.insert(_1="one", _2="two")
    docs.drain()
    drain = Drain(docs.runtime.database, 3)
    with locked(docs, 1):
        for turn in range(7):
            docs.change(1, f"text {turn}")
        docs.change(2, "changed")
        assert drain(until=within(5)) == 1
        docs.insert(_3="three")
        assert drain(until=within(5)) == 1
        docs.covered()
    assert drain(until=within(5)) == 7
    docs.synced.sync()


def test_a_key_locked_for_one_pipeline_waits_for_all_of_its_source(docs: Steps) -> None:
    docs.synced.declare("notes", text=["note"])
    docs.synced.apply()
    docs.synced.sync()
    docs.synced.run("INSERT INTO docs VALUES (1, 'body', 'note')")
    docs.drain()
    with session(docs.synced.database) as frozen:
        frozen.execute("SELECT FROM pgvector_sync.work ORDER BY pipeline_id LIMIT 1 FOR UPDATE")
        docs.synced.run("UPDATE docs SET body = 'changed', note = 'changed'")
        assert drain_once(docs) == 0
        docs.covered()
        frozen.rollback()
    assert drain_once(docs) == 1
    docs.synced.sync()


def test_an_event_whose_id_another_one_has_as_well_is_moved_once(docs: Steps) -> None:
    docs.insert(_1="one")
    first = docs.synced.database.value("SELECT id FROM pgvector_sync.outbox")
    docs.synced.run(f"ALTER TABLE pgvector_sync.outbox ALTER id RESTART WITH {first}")
    docs.insert(_2="two")
    assert docs.synced.database.value("SELECT count(DISTINCT id) FROM pgvector_sync.outbox") == 1
    drain = Drain(docs.runtime.database, 1)
    eventually(lambda: drain(until=within(1)) == 0 and docs.synced.events() == [])
    assert docs.in_work() == [1, 2]
    docs.synced.sync()


# -- a key too long for our index ------------------------------------------------------------------------------

LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=4_000))
"""Text that no index compresses much."""


@pytest.fixture
def named(synced: Synced) -> Steps:
    """A source with a key of text."""
    synced.run("CREATE TABLE named (name text PRIMARY KEY, body text)")
    synced.pipeline(source="named")
    return Steps(synced, synced.runtime)


def longest_key(named: Steps, table: str, values: str, limit: int = 4_000) -> int:
    """Return the maximum length of a key in the table's own index, found by trying."""
    low, high = 1_000, limit
    while low < high:
        middle = (low + high + 1) // 2
        with named.synced.database.connect() as connection:
            try:
                connection.execute(f"BEGIN; INSERT INTO {table} {values.format(LONG[:middle])}; ROLLBACK")
                low = middle
            except psycopg.errors.ProgramLimitExceeded:
                connection.execute("ROLLBACK")
                high = middle - 1
    return low


@pytest.fixture
def too_long(named: Steps) -> str:
    """A key that fits into its own table's index, but not into our index of `work`."""
    in_source = longest_key(named, "named", "VALUES ('{}', '')")
    in_work = longest_key(
        named,
        "pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)",
        "VALUES (0, jsonb_build_array('{}'), 'live', now(), now())",
    )
    assert in_work < in_source, "else every key fits"
    return LONG[:in_source]


def test_an_event_whose_key_is_too_long_for_work_is_parked_and_all_others_pass(
    named: Steps, too_long: str
) -> None:
    named.synced.run(
        "INSERT INTO named SELECT 'before ' || i, 'text ' || i FROM generate_series(1, 30) AS i",
        f"INSERT INTO named VALUES ('{too_long}', 'never embedded')",
        "INSERT INTO named SELECT 'after ' || i, 'text ' || i FROM generate_series(1, 30) AS i",
    )
    drain = Drain(named.runtime.database, 1_000)
    eventually(lambda: drain(until=within(5)) == 0, what="nothing is left to drain")
    named.covered()
    assert named.synced.database.execute("SELECT key ->> 0, error_class FROM pgvector_sync.parked") == [
        (too_long, "key_refused_54000")
    ]
    assert len(named.in_work()) == 60
    named.synced.settle()
    named.covered()
    assert len(named.synced.vectors()) == 60
    assert read_status(named.runtime.database)[0].dead == 1


def test_an_innocent_event_that_commits_while_the_culprit_is_parked_is_not_parked_for_it(
    named: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another index refuses a key that is valid."""
    named.synced.run("CREATE INDEX ON pgvector_sync.work (((key ->> 0)::int))")
    drain = Drain(named.runtime.database, 1_000)
    with session(named.synced.database) as early:
        early.execute("INSERT INTO named VALUES ('7', 'text')")
        named.synced.run("INSERT INTO named VALUES ('culprit', 'never embedded')")
        move_first = drain._move_first

        def after_the_commit(start: int) -> None:
            early.commit()
            move_first(start)

        monkeypatch.setattr(drain, "_move_first", after_the_commit)
        drain(until=within(5))
    eventually(lambda: drain(until=within(5)) == 0, what="nothing is left to drain")
    parked = "SELECT key ->> 0, error_class FROM pgvector_sync.parked"
    assert named.synced.database.execute(parked) == [("culprit", "key_refused_22P02")]
    named.synced.settle()
    assert set(named.synced.vectors()) == {("7",)}


@pytest.mark.parametrize("shorter_by", range(0, 36, 6))
@pytest.mark.quick_variants(4)
def test_a_key_at_the_edge_is_embedded_or_parked_and_holds_up_no_other(named: Steps, shorter_by: int) -> None:
    edge = LONG[: longest_key(named, "named", "VALUES ('{}', '')") - shorter_by]
    named.synced.run("INSERT INTO named VALUES ('short', 'text')", f"INSERT INTO named VALUES ('{edge}', 'text')")
    for _ in range(named.runtime.settings.attempts + 1):
        named.process()
        named.end_backoffs()
    named.synced.settle()
    named.covered()
    vectors = {key for (key,) in named.synced.vectors()}
    parked = "SELECT key ->> 0 FROM pgvector_sync.{} WHERE {}"
    in_outbox = named.synced.database.execute(parked.format("parked", "true"))
    in_work = named.synced.database.execute(parked.format("work", "verdict = 'dead'"))
    dead = {key for (key,) in [*in_outbox, *in_work]}
    assert "short" in vectors
    assert vectors | dead == {"short", edge}
    assert vectors & dead == set()


def test_a_backfill_over_a_key_that_is_too_long_for_work_embeds_all_others(named: Steps, too_long: str) -> None:
    named.synced.run("ALTER TABLE named DISABLE TRIGGER USER")
    named.synced.run("INSERT INTO named SELECT 'key ' || i, 'text ' || i FROM generate_series(1, 30) AS i")
    named.synced.run(f"INSERT INTO named VALUES ('{too_long}', 'never embedded')")
    named.synced.run("ALTER TABLE named ENABLE TRIGGER USER")
    named.synced.declare(source="named", where="name <> ''")
    named.synced.apply()
    named.synced.settle()
    assert len(named.synced.vectors()) == 30
    named.covered()
