"""A slow row is found and parked, the others are embedded, and no statement is left running."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from pgvector_sync.batch import process
from pgvector_sync.capture.drain import Drain
from pgvector_sync.engine.loop import Loop
from pgvector_sync.errors import Refused
from pgvector_sync.model import Lane
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.search import nearest
from pgvector_sync.observe.status import read_status, settled
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings
from support.endpoint import Endpoint, vector_of
from support.servers import Postgres
from support.steps import Interrupted
from support.synced import DIMENSIONS, TEXT_LIMIT, Synced
from support.waiting import eventually, within

ROW_TIMEOUT = timedelta(seconds=0.5)
NAPS = (
    "CREATE FUNCTION napping(t text, seconds text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog "
    "AS 'BEGIN PERFORM pg_sleep(seconds::float8); RETURN t; END'"
)
"""A text expression that sleeps for the number of seconds in `note`."""
TABLE = "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)"
ROWS = 40


@pytest.fixture
def quick_limit(synced: Synced, shared: tuple[Endpoint, Embedders]) -> Iterator[Runtime]:
    """A worker whose limit per row is half a second."""
    with patient(synced, synced.database.url) as runtime:
        yield runtime


@contextmanager
def patient(synced: Synced, url: str, **values: object) -> Iterator[Runtime]:
    chosen = {
        "row_timeout": ROW_TIMEOUT,
        "poll": timedelta(milliseconds=5),
        "text_limit_bytes": TEXT_LIMIT,
    } | values
    settings = Settings(DATABASE_URL=url, **chosen, _env_file=None)  # type: ignore[arg-type]
    with open_database(settings) as database:
        yield Runtime(settings, database, synced.runtime.embedder)


@pytest.fixture
def naps(synced: Synced) -> Synced:
    """A pipeline whose rows are all fast."""
    synced.run(NAPS, TABLE, f"INSERT INTO docs SELECT i, 'text ' || i, '0' FROM generate_series(1, {ROWS}) AS i")
    synced.declare(text={"sql": "napping(body, note)"})
    synced.apply()
    return synced


def batches(runtime: Runtime, count: int = 12) -> None:
    """Takes turns of backfill, drain and batches until nothing is left to do, at most `count`."""
    loop = Loop(runtime)
    for _ in range(count):
        if not loop.turn() and settled(runtime.database, None):
            return


def idle(synced: Synced) -> None:
    """Asserts that no backend of ours is running a statement."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND pid <> pg_backend_pid()"
    )
    eventually(lambda: synced.database.value(query) == 0)


def vectors(synced: Synced) -> set[int]:
    return {key for (key,) in synced.database.execute("SELECT id FROM docs_embedding")}


@pytest.mark.slow
def test_a_row_that_sleeps_is_parked_and_the_others_are_embedded_in_the_same_pass(
    naps: Synced, quick_limit: Runtime
) -> None:
    naps.settle()
    naps.run("UPDATE docs SET body = body || '!', note = CASE id WHEN 17 THEN '60' ELSE '0' END")
    Drain(quick_limit.database, 1000)(until=within(60))
    outcome = process(quick_limit, "docs", Lane.LIVE) or process(quick_limit, "docs", Lane.BULK)
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (ROWS - 1, 1)
    assert naps.dead() == [([17], "expression_too_slow")]
    idle(naps)


def test_a_regular_expression_that_backtracks_is_parked_and_the_others_are_embedded(
    synced: Synced, quick_limit: Runtime
) -> None:
    synced.run(TABLE, f"INSERT INTO docs SELECT i, 'text ' || i, '' FROM generate_series(1, {ROWS}) AS i")
    # a back reference makes Postgres' engine try every way to split the text
    synced.run("UPDATE docs SET body = repeat('ab', 900) || 'c' WHERE id = 7")
    synced.declare(text={"sql": r"regexp_replace(body, '^(.+)(.+)(.+)(.+)\4\3\2\1$', '')"})
    synced.apply()
    batches(quick_limit)
    assert synced.dead() == [([7], "expression_too_slow")]
    assert vectors(synced) == set(range(1, ROWS + 1)) - {7}
    idle(synced)


def test_a_slow_row_comes_back_when_its_content_changes(naps: Synced, quick_limit: Runtime) -> None:
    naps.run("UPDATE docs SET note = '60' WHERE id = 3")
    batches(quick_limit)
    assert naps.dead() == [([3], "expression_too_slow")]
    naps.run("UPDATE docs SET note = '0' WHERE id = 3")
    batches(quick_limit)
    assert naps.dead() == []
    assert vectors(naps) == set(range(1, ROWS + 1))


@pytest.mark.slow
def test_several_slow_rows_are_found_and_hold_up_no_other_row(naps: Synced, quick_limit: Runtime) -> None:
    naps.run("UPDATE docs SET note = '60' WHERE id IN (1, 2, 30)")
    batches(quick_limit, 30)
    assert [key for [key], _ in naps.dead()] == [1, 2, 30]
    assert vectors(naps) == set(range(1, ROWS + 1)) - {1, 2, 30}


@pytest.mark.slow
def test_slow_rows_within_the_limit_are_embedded(naps: Synced, quick_limit: Runtime) -> None:
    naps.run("DELETE FROM docs WHERE id > 6", "UPDATE docs SET note = '0.3'")
    batches(quick_limit, 30)
    assert naps.dead() == []
    assert vectors(naps) == set(range(1, 7))


@pytest.mark.slow
def test_a_slow_server_is_not_blamed_on_a_row(naps: Synced, quick_limit: Runtime) -> None:
    naps.run("UPDATE docs SET note = '60'")
    batches(quick_limit, 3)
    assert naps.dead() == []
    state, reason = naps.database.execute("SELECT state, reason FROM pgvector_sync.pipeline")[0]
    assert state == "misconfigured"
    assert "takes too long on every row (57014)" in reason
    idle(naps)


def test_a_lower_statement_timeout_of_the_role_gives_the_same_result(naps: Synced, postgres: Postgres) -> None:
    naps.run("UPDATE docs SET note = '60' WHERE id = 9")
    naps.run(f"ALTER DATABASE {naps.database.name} SET statement_timeout = '200ms'")
    with patient(naps, naps.database.url, row_timeout=timedelta(seconds=5)) as runtime:
        batches(runtime)
    assert naps.dead() == [([9], "expression_too_slow")]
    assert vectors(naps) == set(range(1, ROWS + 1)) - {9}


@pytest.mark.slow
def test_a_row_that_becomes_slow_during_the_call_is_bought_at_most_once_per_attempt(
    naps: Synced, quick_limit: Runtime
) -> None:
    naps.settle()
    naps.run("UPDATE docs SET body = 'changed' WHERE id IN (4, 5)")
    Drain(quick_limit.database, 1000)(until=within(60))
    naps.endpoint.calls.inputs = 0
    runtime = _meanwhile(quick_limit, lambda: naps.run("UPDATE docs SET note = '60' WHERE id = 4"))
    assert process(runtime, "docs", Lane.LIVE) is not None
    naps.run("UPDATE pgvector_sync.work SET visible_at = statement_timestamp() WHERE lease IS NULL")
    batches(quick_limit)
    assert naps.dead() == [([4], "expression_too_slow")]
    assert naps.paid() <= 2 * quick_limit.settings.attempts
    assert 5 in vectors(naps)
    idle(naps)


def _meanwhile(runtime: Runtime, action: Callable[[], object]) -> Runtime:
    changed = replace(runtime, embedder=lambda provider: Interrupted(runtime.embedder(provider), action))
    object.__setattr__(changed, "keeper", runtime.keeper)
    return changed


@pytest.mark.slow
def test_a_deep_reconciliation_passes_a_slow_row(
    naps: Synced, quick_limit: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.settings.LONGEST_PAGE", ROW_TIMEOUT)
    naps.settle()
    with naps.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # so that no trigger sees it
        connection.execute("UPDATE docs SET note = '60' WHERE id = 12")
        connection.execute("UPDATE docs SET body = 'unnoticed' WHERE id = 13")
    request_reconcile(quick_limit.database, "docs", Reconcile(deep=True))
    running = "SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reconcile' AND state <> 'finished'"
    done = Loop(quick_limit).run(
        finished=lambda: naps.database.value(running) == 0 and settled(quick_limit.database, None),
        until=within(20),
    )
    assert done
    assert naps.dead() == [([12], "expression_too_slow")]
    changed = "SELECT embedding::text FROM docs_embedding WHERE id = 13"
    assert json.loads(naps.database.value(changed)) == pytest.approx(
        list(vector_of("unnoticed", DIMENSIONS)), abs=1e-6
    )
    idle(naps)


@pytest.mark.slow
def test_a_backfill_passes_a_row_whose_condition_is_slow(
    synced: Synced, quick_limit: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.settings.LONGEST_PAGE", ROW_TIMEOUT)
    synced.run(NAPS, TABLE, f"INSERT INTO docs SELECT i, 'text ' || i, '0' FROM generate_series(1, {ROWS}) AS i")
    synced.declare(where="napping(body, note) <> ''")
    synced.apply()
    synced.run("UPDATE docs SET note = '60' WHERE id = 20")
    batches(quick_limit, 60)
    assert synced.dead() == [([20], "expression_too_slow")]
    assert vectors(synced) == set(range(1, ROWS + 1)) - {20}


def test_a_statement_that_is_given_up_is_cancelled(synced: Synced) -> None:
    silence = timedelta(seconds=0.3)
    with (
        synced.runtime.database.connection(silence=silence) as connection,
        pytest.raises(psycopg.OperationalError, match="silent"),
    ):
        connection.execute("SELECT pg_sleep(600)")
    idle(synced)


@pytest.mark.slow
def test_a_search_over_a_slow_row_says_so(naps: Synced, quick_limit: Runtime) -> None:
    naps.settle()
    naps.run("ALTER TABLE docs DISABLE TRIGGER USER", "UPDATE docs SET note = '60'")
    with pytest.raises(Refused, match="took longer than") as refused:
        nearest(quick_limit, "docs", "text 1", k=3)
    assert "PGVECTOR_SYNC_ROW_TIMEOUT" in str(refused.value.hint)
    idle(naps)


def test_an_exact_status_over_a_slow_row_says_so(naps: Synced, quick_limit: Runtime) -> None:
    naps.settle()
    naps.run("ALTER TABLE docs DISABLE TRIGGER USER", "UPDATE docs SET note = '60' WHERE id = 8")
    naps.run(f"ALTER DATABASE {naps.database.name} SET statement_timeout = '300ms'")
    with patient(naps, naps.database.url) as runtime, pytest.raises(Refused, match="took longer than"):
        read_status(runtime.database, "docs", exact_text_limit=TEXT_LIMIT)
    idle(naps)


@pytest.mark.slow
def test_a_re_embed_whose_condition_is_slow_ends_with_the_reason(
    naps: Synced, quick_limit: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgvector_sync.settings.LONGEST_PAGE", ROW_TIMEOUT)
    naps.settle()
    request_reembed(quick_limit.database, "docs", Reembed(where="public.napping(body, '60') = body"))
    batches(quick_limit, 10)
    [(state, reason)] = naps.database.execute("SELECT state, reason FROM pgvector_sync.run WHERE kind = 'reembed'")
    assert state == "failed"
    assert "takes too long" in reason
