"""Reconciliations start by themselves, once, however many beats are running."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.engine.jobs.start_reconciles import JOB
from pgvector_sync.engine.loop import Loop
from support.jobs import ask, reconciles, run_due
from support.synced import Synced

HOUR = timedelta(hours=1)


def runs(docs: Synced) -> list[tuple[str, bool | None]]:
    return docs.database.execute(
        "SELECT state, (options->>'deep')::boolean FROM pgvector_sync.run WHERE kind = 'reconcile' ORDER BY id"
    )


def look(docs: Synced) -> list[str]:
    """Do what the next tick does, one minute later."""
    return reconciles(run_due(docs.runtime, JOB))


def test_a_new_pipeline_is_reconciled_a_day_after_it_was_made_and_deeply_after_a_week(docs: Synced) -> None:
    assert look(docs) == []
    docs.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours'")
    assert look(docs) == ["docs"]
    assert look(docs) == [], "one is running"
    docs.run("UPDATE pgvector_sync.run SET state = 'finished', started_at = now() - interval '2 days'")
    docs.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '8 days'")
    assert look(docs) == ["docs"]
    assert runs(docs) == [("finished", None), ("running", True)]


def test_two_beats_ask_once(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours'")
    assert look(docs) == ["docs"]
    assert reconciles(ask(docs.runtime, JOB)) == []
    assert len(runs(docs)) == 1


def test_a_paused_pipeline_is_left_alone(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours', state = 'paused'")
    assert look(docs) == []


def test_what_the_schedule_asks_for_is_carried_out_gently_and_leaves_its_figures(docs: Synced) -> None:
    docs.declare(reconcile={"every": "1h", "page_rows": 1, "database_share": 0.9})
    docs.apply()
    docs.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '2 hours'")
    assert look(docs) == ["docs"]
    options = docs.database.value("SELECT options FROM pgvector_sync.run WHERE kind = 'reconcile'")
    assert options == {"page_rows": 1, "database_share": 0.9}
    loop = Loop(docs.runtime)
    while runs(docs)[0][0] == "running":
        loop.turn()
    assert docs.database.value("SELECT rows FROM pgvector_sync.drift") == 1


def test_outside_its_window_a_run_waits(docs: Synced) -> None:
    now = docs.database.value("SELECT (now() AT TIME ZONE 'UTC')::timestamp")
    begin, end = (now + HOUR * 2).time().replace(microsecond=0), (now + HOUR * 3).time().replace(microsecond=0)
    docs.run(
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, options) "
        f"SELECT id, 'reconcile', jsonb_build_object('window', jsonb_build_array('{begin}', '{end}')) "
        "FROM pgvector_sync.pipeline"
    )
    docs.settle()
    assert runs(docs) == [("running", None)]
    assert docs.database.value("SELECT visible_at > now() + interval '30 s' FROM pgvector_sync.run WHERE id = 2")
