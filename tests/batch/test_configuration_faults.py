"""An expression that fails on every row, or without any, stops the pipeline and parks no row."""

from __future__ import annotations

import pytest

from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import reconcile, run
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support.beginnings import begins_with
from support.steps import Steps
from support.synced import Synced
from support.waiting import within

ROWS = 60
WHERE = "status = 'published'"


def published_articles(synced: Synced) -> None:
    """Published articles are embedded."""
    synced.run(
        "CREATE TYPE state AS ENUM ('draft', 'published')",
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text, status state NOT NULL DEFAULT 'published')",
        f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i",
    )
    synced.pipeline(where=WHERE)


beginning, begun = begins_with(published_articles)


@pytest.fixture
def articles(begun: Synced) -> Steps:
    return Steps(begun, begun.runtime, checks=False)


def rename(articles: Steps) -> None:
    articles.synced.run("ALTER TYPE state RENAME VALUE 'published' TO 'public'")


RENAMED = (
    "misconfigured",
    "`where` fails without any row (22P02); correct it in pgvector-sync.toml, then: pgvector-sync apply",
)


@pytest.mark.parametrize("count", [1, ROWS])
def test_an_enum_value_renamed_under_where_stops_the_pipeline_and_parks_no_row(
    articles: Steps, count: int
) -> None:
    rename(articles)
    articles.synced.run(f"UPDATE docs SET body = body || ' changed' WHERE id <= {count}")
    articles.process()
    assert articles.state() == RENAMED
    assert articles.synced.dead() == []
    assert articles.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]
    articles.synced.declare(where="status = 'public'")
    articles.synced.apply()
    articles.synced.sync()
    assert articles.state() == ("active", None)


def test_once_it_is_renamed_back_the_pipeline_resumes_by_itself(articles: Steps) -> None:
    rename(articles)
    articles.change(1, "changed")
    articles.process()
    assert articles.state() == RENAMED
    articles.synced.run("ALTER TYPE state RENAME VALUE 'public' TO 'published'")
    articles.end_backoffs()
    articles.synced.sync()
    assert articles.state() == ("active", None)


def test_a_function_that_fails_on_every_row_stops_the_pipeline(articles: Steps) -> None:
    articles.synced.run(
        "CREATE FUNCTION shown(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper(t); END'"
    )
    articles.synced.declare(text={"sql": "public.shown(body)"}, where=WHERE)
    articles.synced.apply()
    articles.synced.sync()
    articles.synced.run(
        "CREATE OR REPLACE FUNCTION shown(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
        "$$ BEGIN RAISE 'not today'; END $$"
    )
    articles.change(1, "changed")
    articles.process()
    assert articles.state() == (
        "misconfigured",
        "`text` fails on every row (P0001); correct it in pgvector-sync.toml, then: pgvector-sync apply",
    )
    assert articles.synced.dead() == []


def test_bad_rows_among_good_ones_are_parked_even_if_a_whole_batch_is_bad(articles: Steps) -> None:
    articles.synced.declare(text={"sql": "body || (100 / coalesce(note, '1')::int)"}, where=WHERE)
    articles.synced.apply()
    articles.synced.settle()
    articles.synced.run("UPDATE docs SET note = '0' WHERE id > 40")
    articles.process()
    assert articles.state() == ("active", None)
    assert [key for key, _ in articles.synced.dead()] == [[i] for i in range(41, ROWS + 1)]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("rows", [0, ROWS])
def test_a_reconciliation_under_a_broken_where_ends_with_a_reason_and_blocks_no_later_one(
    articles: Steps, deep: bool, rows: int
) -> None:
    if not rows:
        articles.synced.run("DELETE FROM docs")
        articles.synced.settle()
    rename(articles)
    run_id = request_reconcile(articles.runtime.database, "docs", Reconcile(deep=deep)).run_id
    assert run.carry_out(articles.runtime, run_id, until=within(10))
    ended = find_run(articles.runtime, run_id)
    assert (ended.state, "`where` fails without any row (22P02)" in str(ended.reason)) == ("failed", True)
    assert not request_reconcile(articles.runtime.database, "docs", Reconcile(deep=deep)).joined
    assert articles.in_work() == []


def test_a_run_that_meets_an_unexpected_error_ends_and_says_so(
    articles: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(reconcile.drift, "page", bug)
        run_id = request_reconcile(articles.runtime.database, "docs").run_id
        assert run.carry_out(articles.runtime, run_id, until=within(10))
    assert "an unexpected error (AssertionError)" in str(find_run(articles.runtime, run_id).reason)
    again = request_reconcile(articles.runtime.database, "docs").run_id
    articles.synced.settle()
    assert find_run(articles.runtime, again).state == "finished"


# -- what a backfill enqueues ------------------------------------------------------------------------------------


def enqueued(synced: Synced) -> tuple[int, int]:
    """Rows that the newest run has seen and enqueued."""
    query = "SELECT rows_seen, rows_enqueued FROM pgvector_sync.run ORDER BY id DESC LIMIT 1"
    return tuple(synced.database.execute(query)[0])


def test_a_backfill_enqueues_and_announces_only_rows_that_where_accepts(synced: Synced) -> None:
    synced.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)",
        f"INSERT INTO docs SELECT i, 'text ' || i, (i % 6)::text FROM generate_series(1, {ROWS}) AS i",
    )
    synced.declare(where="note = '0'")
    [made] = synced.plan().pipelines
    assert made.backfill_words == f"embeds {ROWS // 6} rows with text-embedding-3-small"
    synced.apply()
    synced.sync()
    assert enqueued(synced) == (ROWS, ROWS // 6)


def test_rows_that_no_longer_match_lose_their_vectors_and_their_dead_letters(articles: Steps) -> None:
    synced = articles.synced
    synced.endpoint.fail(status=400, marker="poison")
    articles.change(7, "poison")
    synced.settle()
    assert synced.dead() == [([7], "input_rejected")]
    synced.run("INSERT INTO docs SELECT i, 'draft', NULL, 'draft' FROM generate_series(101, 150) AS i")
    synced.settle()
    synced.declare(where=f"{WHERE} AND id > 30")
    synced.apply()
    synced.sync()
    assert enqueued(synced) == (ROWS + 50, ROWS)
    assert synced.dead() == []
    assert len(synced.vectors()) == ROWS - 30


def test_a_row_on_which_where_fails_is_asked_for_by_a_backfill_and_parked(articles: Steps) -> None:
    articles.synced.run("UPDATE docs SET note = CASE WHEN id = 13 THEN '0' ELSE '1' END")
    articles.synced.settle()
    articles.synced.declare(where="100 / note::int > 5")
    articles.synced.apply()
    articles.synced.settle()
    assert articles.synced.dead() == [([13], "expression_failed")]
    assert len(articles.synced.vectors()) == ROWS, "a dead letter keeps its vector"


def test_a_re_embed_passes_over_rows_that_where_refuses(articles: Steps) -> None:
    articles.synced.run("INSERT INTO docs SELECT i, 'draft', NULL, 'draft' FROM generate_series(101, 150) AS i")
    articles.synced.settle()
    request_reembed(articles.runtime.database, "docs", Reembed(stale_only=False))
    articles.synced.settle()
    assert enqueued(articles.synced) == (ROWS + 50, ROWS)
