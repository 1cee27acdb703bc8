"""Bulk re-embeds: the rows that were asked for are read again, and nothing is paid for twice unless it must be."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pgvector_sync.errors import Refused
from pgvector_sync.model import Key, Lane
from pgvector_sync.model.request import Reembed
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import bulk, run
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.store import runs
from pgvector_sync.store.runs import Run
from support.beginnings import begins_with, default_source
from support.steps import Steps
from support.synced import Synced
from support.waiting import within

ROWS = 30


def thirty_rows(synced: Synced) -> None:
    """30 rows, each with its vector and a note that nothing reads."""
    default_source(synced)
    synced.filled(f"INSERT INTO docs SELECT i, 'text ' || i, i % 3 FROM generate_series(1, {ROWS}) AS i")


beginning, begun = begins_with(thirty_rows)


@pytest.fixture
def filled(begun: Synced, docs: Steps, monkeypatch: pytest.MonkeyPatch) -> Steps:
    monkeypatch.setattr(bulk, "PAGE_ROWS", 10)
    return docs


def ask(docs: Steps, *, keys: list[Key] | None = None, **options: Any) -> int:
    return request_reembed(docs.runtime.database, docs.pipeline, Reembed(**options), keys=keys).run_id


def walked(docs: Steps, run_id: int, *, seconds: float = 10.0) -> Run:
    """The run, enqueued to its end; nothing of it is embedded yet."""
    run.carry_out(docs.runtime, run_id, until=within(seconds))
    return find_run(docs.runtime, run_id)


def cancel(docs: Steps, run_id: int) -> bool:
    with docs.runtime.database.transaction() as connection:
        return runs.cancel(connection, run_id)


def test_what_is_fresh_is_read_again_and_costs_nothing(filled: Steps) -> None:
    paid = filled.synced.paid()
    run_id = ask(filled)
    assert walked(filled, run_id).rows_enqueued == ROWS
    filled.synced.sync()
    assert filled.synced.paid() == paid
    assert find_run(filled.runtime, run_id).state == "finished"


def test_force_pays_for_every_row_again_once(filled: Steps) -> None:
    paid = filled.synced.paid()
    walked(filled, ask(filled, force=True))
    filled.synced.sync()
    assert filled.synced.paid() == paid + ROWS


def test_a_condition_chooses_the_rows(filled: Steps) -> None:
    paid = filled.synced.paid()
    ended = walked(filled, ask(filled, where="note = '1' AND id > 10 -- as in psql", force=True))
    assert filled.in_work() == [13, 16, 19, 22, 25, 28]
    assert (ended.rows_seen, ended.rows_enqueued) == (ROWS, 6)
    filled.synced.sync()
    assert filled.synced.paid() == paid + 6


def test_a_list_of_keys_chooses_the_rows_and_a_key_that_is_gone_is_no_harm(filled: Steps) -> None:
    ended = walked(filled, ask(filled, keys=[(key,) for key in (30, 7, 999, 7)], force=True))
    assert filled.in_work() == [7, 30, 999]
    assert ended.rows_total == 3
    filled.synced.sync()
    assert filled.synced.database.value("SELECT count(*) FROM pgvector_sync.run_key") == 0


def test_keys_and_the_other_choices_go_together(filled: Steps) -> None:
    keys = [(key,) for key in range(1, 6)]
    filled.synced.run("SET session_replication_role = replica; UPDATE docs SET body = 'unnoticed' WHERE id = 5")
    assert walked(filled, ask(filled, keys=keys, stale_only=True)).rows_enqueued == 1
    filled.synced.settle()
    paid = filled.synced.paid()
    first, second = ask(filled, keys=keys, force=True), ask(filled, keys=keys, force=True)
    walked(filled, first)
    filled.synced.settle()
    walked(filled, second)
    filled.synced.settle()
    assert filled.synced.paid() == paid + 5


def test_stale_only_enqueues_only_what_differs(filled: Steps) -> None:
    filled.synced.run(
        "SET session_replication_role = replica; UPDATE docs SET body = 'unnoticed' WHERE id IN (5, 25)"
    )
    assert walked(filled, ask(filled, stale_only=True)).rows_enqueued == 2
    assert filled.in_work() == [5, 25]
    filled.synced.sync()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nothing = 1", 'column "nothing" does not exist'),
        ("id", "must be type boolean"),
        ("id > 1; DROP TABLE docs", "syntax error"),
        ("count(*) > 1", "aggregate functions are not allowed"),
        ("id > 'x'", "invalid input syntax"),
        ("", "syntax error"),
    ],
)
def test_what_is_no_condition_is_refused_before_anything_is_enqueued(
    filled: Steps, where: str, words: str
) -> None:
    with pytest.raises(Refused, match=r"not valid for public\.docs") as refused:
        ask(filled, where=where)
    assert words in str(refused.value)
    assert filled.synced.database.value("SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reembed'") == 0


def test_a_condition_can_change_nothing(filled: Steps) -> None:
    filled.synced.run(
        "CREATE FUNCTION nasty() RETURNS boolean LANGUAGE sql AS $$ DELETE FROM public.docs WHERE id = 1 RETURNING true $$"
    )
    ended = walked(filled, ask(filled, where="public.nasty()"))
    assert ended.state == "failed"
    assert ended.reason == "the condition must not change data"
    assert len(filled.synced.vectors()) == ROWS
    filled.covered()


def test_a_condition_that_fails_on_a_row_ends_the_run_and_says_so(filled: Steps) -> None:
    ended = walked(filled, ask(filled, where="1 / (id - 15) > 0"))
    assert ended.state == "failed"
    assert "22012" in (ended.reason or "")
    assert "condition" in (ended.reason or "")
    assert "15" not in (ended.reason or "").replace("22012", "")


def test_asking_for_the_same_twice_is_one_run(filled: Steps) -> None:
    first = request_reembed(filled.runtime.database, "docs", Reembed(force=True))
    again = request_reembed(filled.runtime.database, "docs", Reembed(force=True))
    assert (again.run_id, again.joined) == (first.run_id, True)
    assert not request_reembed(filled.runtime.database, "docs", Reembed(where="id > 1")).joined


def test_two_runs_that_overlap_dont_pay_for_a_row_twice(filled: Steps) -> None:
    paid = filled.synced.paid()
    first, second = ask(filled, force=True), ask(filled, where="id <= 20", force=True)
    with filled.runtime.database.transaction() as connection:
        assert [due[0] for due in runs.due_runs(connection)] == [first], "one after the other"
    walked(filled, first)
    filled.synced.settle()
    walked(filled, second)
    filled.synced.sync()
    assert filled.synced.paid() == paid + ROWS


def test_a_row_that_changes_while_it_waits_is_embedded_once(filled: Steps) -> None:
    paid = filled.synced.paid()
    walked(filled, ask(filled, force=True))
    filled.change(7, "another text")
    filled.drain()
    filled.synced.sync()
    assert filled.synced.paid() == paid + ROWS
    assert filled.has_vector_of(7, "another text")


def test_a_row_that_is_in_flight_is_paid_for_again_where_that_was_asked_for(filled: Steps) -> None:
    filled.change(7, "another text")
    batch = filled.claim()
    prepared = filled.embed(batch)
    walked(filled, ask(filled, where="id = 7", force=True))
    written = filled.write(batch, prepared)
    assert written.superseded == {(7,)}, "it was read before the force was asked for"
    paid = filled.synced.paid()
    filled.synced.sync()
    assert filled.synced.paid() == paid + 1


def test_a_cancelled_run_enqueues_no_more_and_buys_nothing_more(filled: Steps) -> None:
    paid = filled.synced.paid()
    run_id = ask(filled, force=True, rows_per_second=10)
    assert walked(filled, run_id).rows_enqueued == 10
    assert cancel(filled, run_id)
    assert not cancel(filled, run_id)
    filled.synced.sync()
    assert filled.synced.paid() == paid
    assert find_run(filled.runtime, run_id).state == "cancelled"


def test_a_page_that_was_read_before_its_run_was_cancelled_enqueues_nothing(
    filled: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = filled.synced.paid()
    run_id = ask(filled, force=True)
    enqueue = bulk._enqueue

    def cancelled_meanwhile(*arguments: Any) -> Any:
        cancel(filled, run_id)
        return enqueue(*arguments)

    monkeypatch.setattr(bulk, "_enqueue", cancelled_meanwhile)
    assert walked(filled, run_id).rows_enqueued == 0
    filled.synced.sync()
    assert filled.synced.paid() == paid


@pytest.mark.parametrize("change", ["state = 'paused'", "problem = 'the source is gone', problem_stops = true"])
def test_a_run_that_was_rung_for_before_its_pipeline_stopped_is_not_carried_out(
    filled: Steps, change: str
) -> None:
    run_id = ask(filled)
    filled.synced.run(f"UPDATE pgvector_sync.pipeline SET {change}")
    assert walked(filled, run_id).rows_seen == 0
    filled.synced.run("UPDATE pgvector_sync.pipeline SET state = 'active', problem = NULL, problem_stops = false")
    assert walked(filled, run_id).rows_seen == ROWS
    filled.synced.sync()


def test_a_worker_that_has_lost_its_run_to_another_changes_nothing_of_it(filled: Steps) -> None:
    run_id = ask(filled)

    def claimed() -> runs.ClaimedRun:
        with filled.runtime.database.transaction() as connection:
            run = runs.claim(connection, run_id, new_lease(filled.runtime.settings))
        assert run is not None
        return run

    first = replace(claimed(), walked=True)
    filled.synced.run("UPDATE pgvector_sync.lease SET lost_at = now()")
    claimed()
    filled.synced.run("UPDATE pgvector_sync.run SET walked = true")
    row = "SELECT * FROM pgvector_sync.run WHERE id = %s"
    before = filled.synced.database.execute(row, run_id)
    with filled.runtime.database.transaction() as connection:
        assert not runs.advance(connection, first, seen=ROWS, enqueued=0)
        assert not runs.finish(connection, first)
        assert not runs.fail(connection, first, "an error")
        runs.give_back(connection, first, delay=timedelta(0))
    assert filled.synced.database.execute(row, run_id) == before


def test_a_backfill_cant_be_cancelled(filled: Steps) -> None:
    filled.synced.declare(where="id > 0")
    filled.synced.apply()
    backfill = filled.synced.database.value("SELECT max(id) FROM pgvector_sync.run WHERE kind = 'backfill'")
    assert not cancel(filled, backfill)
    filled.synced.sync()


def test_a_rate_limits_the_rows_a_second(filled: Steps) -> None:
    run_id = ask(filled, rows_per_second=5)
    began = time.monotonic()
    assert walked(filled, run_id, seconds=0.5).rows_seen == 5
    assert walked(filled, run_id, seconds=0.5).rows_seen == 5, "not due yet"
    due = "SELECT extract(epoch FROM visible_at - started_at) FROM pgvector_sync.run WHERE id = %s"
    assert 0.9 < float(filled.synced.database.value(due, run_id)) < 2
    assert time.monotonic() - began < 2


def test_a_dead_letter_is_not_bought_again_by_force(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison", _2="fine")
    docs.process()
    calls = docs.synced.endpoint.calls.requests
    walked(docs, ask(docs, where="id = 1", force=True))
    docs.synced.settle()
    assert docs.synced.dead() == [([1], "input_rejected")]
    assert docs.synced.endpoint.calls.requests == calls


def test_a_day_whose_tokens_are_spent_stops_bulk_and_not_live(filled: Steps) -> None:
    filled.synced.declare(tokens_per_day=50)
    filled.synced.apply()
    filled.synced.run("UPDATE pgvector_sync.usage SET tokens = 50")
    walked(filled, ask(filled, force=True))
    assert filled.try_claim(Lane.BULK) is None
    filled.insert(_999="live")
    outcome = filled.process()
    assert outcome is not None
    assert outcome.stored == 1
    from pgvector_sync.observe.status import read_status

    [status] = read_status(filled.runtime.database)
    assert "50 tokens are spent: bulk waits until midnight UTC" in (status.reason or "")
    assert (status.state, status.waiting) == ("active", ROWS)
    filled.synced.run("UPDATE pgvector_sync.usage SET day = day - 1")
    filled.synced.sync()


@pytest.mark.parametrize(
    ("columns", "key", "stored"),
    [
        ("id bigint", "42", [42]),
        ("id bigint", "'42'::text", [42]),
        ("id uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::text", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("id numeric", "1.50::numeric", ["1.5"]),
        ("id date", "'2026-11-24'::date", ["2026-11-24"]),
        ("id text", "'[1]'::text", ["[1]"]),
        ("r text, id int", "jsonb_build_array('eu', 7)", ["eu", 7]),
    ],
)
@pytest.mark.quick_variants(3)
def test_a_row_is_enqueued_from_sql_by_its_key(docs: Steps, columns: str, key: str, stored: list[Any]) -> None:
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    docs.synced.run(f"CREATE TABLE keyed ({columns}, body text, PRIMARY KEY ({names}))")
    docs.synced.declare("keyed", source="keyed")
    docs.synced.apply()
    docs.synced.run(f"SELECT pgvector_sync.enqueue('keyed', {key})")
    assert docs.synced.events() == [stored]
    docs.synced.settle()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("enqueue('nothing', 1)", "there is no pipeline nothing"),
        ("enqueue('docs', jsonb_build_array(1, 2))", r"expected the key of docs, \(id\), got 2 values"),
        ("enqueue('docs', NULL::bigint)", "a key can't contain NULL"),
        ("enqueue('docs', 'x'::text)", "invalid input syntax for type bigint"),
    ],
)
def test_what_is_no_key_is_refused_in_the_callers_transaction(docs: Steps, call: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        docs.synced.run(f"SELECT pgvector_sync.{call}")
