"""Runs, schedules and `enqueue` while other things happen or fail at the same time."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgvector_sync import settings
from pgvector_sync.engine.jobs.start_reconciles import JOB
from pgvector_sync.failpoint import Failpoint
from pgvector_sync.model import Key, KeyColumn, Lane
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import bulk, reconcile, run
from pgvector_sync.runs.estimate import estimate
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from pgvector_sync.store.canonical import canonical_key
from pgvector_sync.store.runs import Run
from support import jobs
from support.beginnings import begins_with, default_source
from support.steps import Steps
from support.synced import DIMENSIONS, Synced
from support.waiting import eventually, within

ROWS = 20


def twenty_rows(synced: Synced) -> None:
    default_source(synced)
    synced.filled(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")


beginning, begun = begins_with(twenty_rows)


@pytest.fixture
def filled(begun: Synced, docs: Steps) -> Steps:
    return docs


def ask(docs: Steps, *, keys: list[Key] | None = None, **options: Any) -> int:
    return request_reembed(docs.runtime.database, docs.pipeline, Reembed(**options), keys=keys).run_id


def walk(docs: Steps, run_id: int, seconds: float = 10) -> Run:
    run.carry_out(docs.runtime, run_id, until=within(seconds))
    return find_run(docs.runtime, run_id)


def reconciled(docs: Steps, **options: Any) -> Run:
    return walk(docs, request_reconcile(docs.runtime.database, docs.pipeline, Reconcile(**options)).run_id)


def unnoticed(docs: Steps, *statements: str) -> None:
    docs.synced.run("; ".join(["SET session_replication_role = replica", *statements]))


def test_a_role_that_may_only_enqueue_cant_run_code_as_its_owner(docs: Steps) -> None:
    docs.synced.run(
        "CREATE ROLE caller LOGIN", "GRANT USAGE ON SCHEMA pgvector_sync TO caller",
        "GRANT EXECUTE ON FUNCTION pgvector_sync.enqueue(text, anyelement) TO caller",
    )  # fmt: skip
    try:
        with docs.synced.database.connect() as connection:
            connection.execute("SET ROLE caller")
            connection.execute("CREATE TYPE pg_temp.trap AS ENUM ('x')")
            connection.execute(
                "CREATE FUNCTION pg_temp.spring(pg_temp.trap) RETURNS json LANGUAGE plpgsql AS $$ BEGIN "
                "EXECUTE 'ALTER ROLE caller SUPERUSER'; RETURN '1'; END $$"
            )
            connection.execute("CREATE CAST (pg_temp.trap AS json) WITH FUNCTION pg_temp.spring(pg_temp.trap)")
            with pytest.raises(psycopg.errors.WrongObjectType, match="a key can't be of type trap"):
                connection.execute("SELECT pgvector_sync.enqueue('docs', 'x'::pg_temp.trap)")
            connection.execute("SELECT pgvector_sync.enqueue('docs', 1::bigint)")
        assert docs.synced.events() == [[1]], "a key of the source is enqueued"
        assert not docs.synced.database.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'caller'")
    finally:
        docs.synced.run("DROP OWNED BY caller CASCADE", "DROP ROLE caller")


def test_a_source_that_is_gone_stops_no_other_schedule(filled: Steps) -> None:
    filled.synced.run("CREATE TABLE more (id bigint PRIMARY KEY, body text)")
    filled.synced.declare("more", source="more")
    filled.synced.apply()
    filled.synced.settle()
    filled.synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '2 days'")
    filled.synced.run("ALTER TABLE docs RENAME TO renamed", "DELETE FROM pgvector_sync.tick")
    assert jobs.reconciles(jobs.ask(filled.runtime, JOB)) == ["more"]


def test_force_is_not_lost_by_a_row_of_equal_text(filled: Steps) -> None:
    """The vectors of a forced text are replaced everywhere, also where a row borrowed one meanwhile."""
    run_id = ask(filled, force=True)
    zero = [0.5] + [0.0] * (DIMENSIONS - 1)
    filled.synced.run(f"UPDATE docs_embedding SET embedding = '{zero}', embedded_at = embedded_at WHERE id = 1")
    filled.insert(_100="text 1")
    filled.process()
    walk(filled, run_id)
    filled.synced.settle()
    assert filled.has_vector_of(1, "text 1")
    assert filled.has_vector_of(100, "text 1")


def test_an_apply_in_mid_run_is_not_taken_for_drift(filled: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = request_reconcile(filled.runtime.database, "docs", Reconcile(page_rows=5))
    paid = filled.synced.paid()
    step, pages = reconcile._step, iter(range(100))

    def stepping(*args: Any):
        if next(pages) == 1:
            filled.synced.declare(model="text-embedding-3-large")
            filled.synced.apply()
            backfill = filled.synced.database.value(
                "SELECT max(id) FROM pgvector_sync.run WHERE kind = 'backfill'"
            )
            run.carry_out(filled.runtime, backfill, until=within(5))
            while filled.process(Lane.BULK) is not None:
                pass
        return step(*args)

    monkeypatch.setattr(reconcile, "_step", stepping)
    walk(filled, requested.run_id)
    monkeypatch.undo()
    filled.synced.settle()
    assert filled.synced.paid() == paid + ROWS, find_run(filled.runtime, requested.run_id).counts


def one_of_twenty_fails(docs: Steps) -> None:
    """Syncs twenty rows; on the seventh, the text fails."""
    docs.checks = False
    docs.synced.declare(text={"sql": "body || (100 / coalesce(note, '1')::int)"})
    docs.synced.apply()
    docs.synced.run(
        "INSERT INTO docs SELECT i, 'text', CASE WHEN i = 7 THEN '0' ELSE '1' END FROM generate_series(1, 20) i"
    )
    docs.synced.settle()
    assert docs.synced.dead() == [([7], "expression_failed")]


def test_stale_only_passes_a_row_on_which_the_text_fails(docs: Steps) -> None:
    one_of_twenty_fails(docs)
    unnoticed(docs, "UPDATE docs SET body = 'other' WHERE id = 9")
    ended = walk(docs, ask(docs, stale_only=True))
    assert ended.state == "running", ended.reason
    docs.synced.settle()
    assert docs.has_vector_of(9, "other100")


def test_an_estimate_passes_a_row_on_which_the_text_fails(docs: Steps) -> None:
    one_of_twenty_fails(docs)
    assert estimate(docs.runtime, "docs", Reembed(force=True)).sampled_rows == 19


def test_looking_is_not_reconciling(filled: Steps) -> None:
    filled.synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '9 days'")
    reconciled(filled, dry_run=True, deep=True)
    filled.synced.run("DELETE FROM pgvector_sync.tick")
    assert jobs.reconciles(jobs.ask(filled.runtime, JOB)) == ["docs"]


def test_an_orphan_share_of_nothing_means_nothing(filled: Steps) -> None:
    filled.synced.declare(reconcile={"orphan_share": 0})
    filled.synced.apply()
    unnoticed(filled, "DELETE FROM docs WHERE id = 1")
    assert reconciled(filled).state == "failed"


def test_a_date_typed_in_another_way_is_the_same_key(synced: Synced) -> None:
    synced.run(
        "CREATE TABLE days (day date PRIMARY KEY, body text)", "INSERT INTO days VALUES ('2026-01-05', 'x')"
    )
    synced.pipeline("docs", source="days")
    days = Steps(synced, synced.runtime)
    columns = synced.shape().pipeline.source.key
    keys = [canonical_key([typed], columns) for typed in ("2026-01-05", "20260105", "2026-W02-1")]
    assert set(keys) == {("2026-01-05",)}
    with pytest.raises(ValueError, match="2026-1-5"):
        canonical_key(["2026-1-5"], columns)
    walk(days, ask(days, keys=keys, force=True))
    assert days.in_work() == ["2026-01-05"]
    paid = synced.paid()
    days.process(Lane.BULK)
    assert synced.paid() == paid + 1
    assert days.state() == ("active", None)


def test_minus_zero_is_zero(synced: Synced) -> None:

    assert canonical_key(["-0.00"], [KeyColumn("n", "numeric")]) == ("0",)


@pytest.mark.parametrize("kind", ["reconcile", pytest.param("stale_only", marks=pytest.mark.slow)])
def test_a_page_that_takes_too_long_is_made_smaller(
    docs: Steps, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs.checks = False
    docs.synced.run(
        "CREATE FUNCTION slow(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN t; END $$",
        "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 60) AS i",
    )
    docs.synced.declare(text={"sql": "public.slow(body)"}, batch_size=10)
    docs.synced.apply()
    docs.synced.settle()

    monkeypatch.setattr(settings, "LONGEST_PAGE", timedelta(milliseconds=400))
    name = docs.synced.database.name
    docs.synced.run(f"ALTER DATABASE {name} SET statement_timeout = '400ms'")
    with docs.synced.acting_as("postgres") as one:
        if kind == "reconcile":
            run_id = request_reconcile(one.database, "docs", Reconcile(deep=True)).run_id
        else:
            run_id = request_reembed(one.database, "docs", Reembed(stale_only=True)).run_id

        def ended() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                run.carry_out(one, run_id, until=within(5))
            return find_run(one, run_id).state == "finished"

        eventually(ended, 10)


def test_a_pipeline_removed_while_a_page_commits_leaves_nothing(
    filled: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:

    run_id = ask(filled)
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    gone = threading.Event()
    remover = threading.Thread(target=lambda: filled.synced.remove("docs"))

    def at(point: Failpoint) -> None:
        if point is Failpoint.BACKFILL_ENQUEUED and not gone.is_set():
            gone.set()
            remover.start()
            eventually(lambda: filled.synced.database.value(waiting))

    monkeypatch.setattr(bulk, "reach", at)
    run.carry_out(filled.runtime, run_id, until=within(5))
    remover.join()
    assert filled.synced.names() == []
    assert filled.in_work() == []


def test_work_that_only_waits_for_its_provider_is_not_stuck(filled: Steps) -> None:
    filled.change(1, "live")
    filled.claim()
    filled.synced.run(
        "UPDATE pgvector_sync.lease SET expires_at = now() - interval '1 hour'",
        "UPDATE pgvector_sync.pipeline SET state = 'cooling_down', retry_at = now() + interval '5 min'",
    )
    ended = reconciled(filled)
    assert (filled.work(1, "lane"), ended.counts["stuck"], filled.lease() is None) == ("live", 0, False)


def test_a_row_that_never_rests_holds_up_no_run(filled: Steps) -> None:
    run_id = ask(filled, where="id = 1")
    walk(filled, run_id)
    for turn in range(4):
        filled.end_backoffs()
        batch = filled.claim(Lane.BULK)
        prepared = filled.embed(batch)
        filled.change(1, f"text of turn {turn}")
        filled.drain()
        assert filled.write(batch, prepared).superseded == {(1,)}
    assert walk(filled, run_id).state == "finished"
    filled.end_backoffs()
    filled.synced.sync()


def test_a_broken_vector_is_not_borrowed(filled: Steps) -> None:
    filled.synced.run(f"UPDATE docs_embedding SET embedding = '{[0.0] * DIMENSIONS}' WHERE id = 1")
    filled.insert(_100="text 1")
    filled.process()
    assert filled.has_vector_of(100, "text 1")


def test_a_window_that_closes_doesnt_keep_a_run_open_that_has_walked(filled: Steps) -> None:
    requested = request_reconcile(filled.runtime.database, "docs")
    unnoticed(filled, "UPDATE docs_embedding SET model = 'x' WHERE id = 1")
    walk(filled, requested.run_id)
    filled.synced.run("""UPDATE pgvector_sync.run SET options = options || jsonb_build_object('window', jsonb_build_array(
        to_char(now() AT TIME ZONE 'UTC' + interval '2 hours', 'HH24:MI'), to_char(now() AT TIME ZONE 'UTC' + interval '3 hours', 'HH24:MI')))""")
    filled.process(Lane.BULK)
    filled.synced.run("UPDATE pgvector_sync.run SET visible_at = now()")
    assert walk(filled, requested.run_id).state == "finished"
