"""Searches for due rows start where the last one found the first: entries of processed rows, which an old snapshot keeps in
the index, cost a search from the beginning once per second. What a hint misses is found by that search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgvector_sync.database import begin
from pgvector_sync.engine.turn import Engine
from pgvector_sync.model import Lane
from pgvector_sync.store import due_hints, pipelines, poll, work
from pgvector_sync.store.due_hints import BEGINNING, DueHints
from pgvector_sync.store.leases import Lease
from support.explained import Explained
from support.steps import Steps
from support.synced import Synced
from support.waiting import eventually

MINUTE = timedelta(minutes=1)
GONE = 20_000
ADD = """
    INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)
    SELECT id, jsonb_build_array(i * 2 + (lane = 'bulk')::int), lane, now(), now() - interval '1 hour' + i * interval '10 ms'
    FROM pgvector_sync.pipeline, generate_series(%s::int, %s::int) AS i, unnest('{live,bulk}'::text[]) AS lane
"""
"""Rows that wait, in both lanes. Those of the live lane have even keys."""


@pytest.fixture
def crowd(docs: Steps) -> Iterator[Synced]:
    """A pipeline whose rows have been processed while a snapshot was held, and one row per lane that waits."""
    synced = docs.synced
    with synced.database.connect() as held:
        held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        held.execute("SELECT 1")
        synced.database.execute(ADD, 1, GONE)
        synced.run("DELETE FROM pgvector_sync.work")
        synced.database.execute(ADD, GONE + 1, GONE + 1)
        yield synced


def claim(connection: psycopg.Connection[Any], hints: DueHints, limit: int = 1) -> list[int]:
    pipeline = pipelines.require_pipeline(connection, "docs")
    lease = Lease(uuid4(), "host:family:1", MINUTE, MINUTE)
    claimed = work.claim(connection, pipeline, Lane.LIVE, lease, limit=limit, max_attempts=5, hints=hints)
    return [row.key[0] for row in claimed]


SEARCHES: dict[str, Callable[[psycopg.Connection[Any], DueHints], object]] = {
    "claim": claim,
    "due": lambda c, hints: work.due(c, limit=1_000, hints=hints),
    "look": lambda c, hints: poll.look(c, after_id=0, grace=MINUTE, jobs=[], hints=hints),
}


def pages(synced: Synced, search: str, hints: DueHints) -> int:
    """How many pages of work a search reads."""
    explained = Explained(synced.database.url)
    with explained as connection, begin(connection, lock_timeout=MINUTE, by_key=True, force_rollback=True):
        explained.plans.clear()
        SEARCHES[search](connection, hints)
    return sum(plan.buffers("work") for plan in explained.plans)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("left", ["rows that wait", "nothing"])
def test_a_search_does_not_step_over_rows_that_were_processed_before_the_last_one(
    crowd: Synced, search: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        due_hints, "FULL_SEARCH_EVERY", MINUTE
    )  # a busy machine takes over a second for these searches
    if left == "nothing":
        crowd.run("DELETE FROM pgvector_sync.work")
    hints = DueHints()
    pages(crowd, search, hints)  # the first search of new entries reads more than later ones
    from_beginning = pages(crowd, search, DueHints())
    pages(crowd, "due", hints)
    pages(crowd, "claim", hints)
    assert from_beginning > GONE / 200
    assert pages(crowd, search, hints) < from_beginning / 10


def test_rows_are_claimed_in_the_order_in_which_they_became_due(docs: Steps) -> None:
    docs.synced.database.execute(ADD, 1, 6)
    hints = DueHints()
    with docs.runtime.database.transaction() as connection:
        claimed = [claim(connection, hints, limit=2) for _ in range(4)]
    assert claimed == [[2, 4], [6, 8], [10, 12], []]


@pytest.mark.parametrize("found_first", [True, False])
def test_a_row_that_becomes_visible_late_is_claimed_within_a_second(docs: Steps, found_first: bool) -> None:
    """It is due since before the first row of the last search, for example because its transaction took long."""
    hints = DueHints()
    if found_first:
        docs.synced.database.execute(ADD, 100, 100)
    with docs.runtime.database.transaction() as connection:
        assert claim(connection, hints) == ([200] if found_first else [])
    docs.synced.database.execute(ADD, 1, 1)

    def claimed() -> list[int]:
        with docs.runtime.database.transaction() as connection:
            return claim(connection, hints)

    assert claimed() == []
    assert eventually(claimed, 1.5) == [2]


def test_a_row_that_becomes_visible_late_is_counted_within_a_second(docs: Steps) -> None:
    database, settings = docs.runtime.database, docs.runtime.settings
    engine = Engine(database, settings, (), drain_for=timedelta(seconds=5))
    engine.turn(counted_rows=10)
    docs.synced.database.execute(ADD, 1, 3)
    assert not engine.look().work
    assert eventually(lambda: engine.look().work, 1.5)
    assert [item.rows for item in engine.turn(counted_rows=10).due] == [3, 3]


def test_a_row_whose_transaction_takes_a_moment_is_claimed_at_once(docs: Steps) -> None:
    """As a released row: it is due since its statement, and visible after its commit. Meanwhile, others are claimed."""
    hints = DueHints()
    with docs.synced.database.connect() as late, late.transaction():
        late.execute(
            "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) "
            "SELECT id, '[1]', 'live', now(), now() FROM pgvector_sync.pipeline"
        )
        with docs.runtime.database.transaction() as connection:
            assert claim(connection, hints) == []
    assert hints.since(docs.synced.shape().pipeline.id, Lane.LIVE) > BEGINNING
    with docs.runtime.database.transaction() as connection:
        assert claim(connection, hints) == [1]


@pytest.mark.parametrize(
    "waits_as",
    ["lane = 'bulk'", "parked_at = now(), verdict = 'dead'"],
    ids=["in the bulk lane", "as a dead letter"],
)
def test_a_change_of_a_row_that_has_waited_elsewhere_is_claimed_at_once(docs: Steps, waits_as: str) -> None:
    docs.insert(_1="one", _2="two")
    docs.drain()
    docs.synced.run(
        f"UPDATE pgvector_sync.work SET {waits_as}, visible_at = now() - interval '1 hour' WHERE key = '[1]'"
    )
    assert [key for (key,) in docs.claim().rows] == [2]
    docs.change(1, "changed")
    assert [key for (key,) in docs.claim().rows] == [1]


def test_a_lane_is_searched_from_the_beginning_once_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_hints, "FULL_SEARCH_EVERY", MINUTE)
    hints = DueHints()
    assert hints.since(1, Lane.LIVE) == BEGINNING
    hints.learn(1, Lane.LIVE, since=BEGINNING, due_from=100.0)
    assert hints.since(1, Lane.LIVE) == 100.0 - due_hints.SLACK.total_seconds()
    assert hints.all().keys() == {(1, Lane.LIVE)}
    monkeypatch.setattr(due_hints, "FULL_SEARCH_EVERY", timedelta(0))
    hints.learn(1, Lane.LIVE, since=99.0, due_from=200.0)
    assert hints.since(1, Lane.LIVE) > 100.0, "a search that started at a hint doesn't postpone the next full one"
    hints.found_nothing()
    assert hints.since(1, Lane.LIVE) == BEGINNING
