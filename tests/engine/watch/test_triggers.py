"""Triggers that are dropped, disabled or lost are noticed and repaired if possible, and missed changes are found (G15)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.engine import watch
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.requests import request_reconcile
from support.synced import DOCS, OURS, Synced

Look = Callable[..., tuple[str, str | None]]
PARTS = (
    "CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200)",
    "INSERT INTO parts VALUES (1, 'one'), (101, 'another')",
)


def deep_runs(docs: Synced) -> int:
    query = """SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reconcile' AND options @> '{"deep": true}'"""
    return int(docs.database.value(query))


@pytest.mark.parametrize("event", ["insert", "update", "delete", "truncate"])
def test_a_dropped_trigger_is_installed_again_and_what_was_missed_is_found(docs: Synced, seen: Look, event: str):
    docs.run(
        f"DROP TRIGGER pgvector_sync_{event} ON docs",
        "INSERT INTO docs VALUES (4, 'four')",
        "UPDATE docs SET body = 'uno' WHERE id = 1",
        "DELETE FROM docs WHERE id = 2",
    )
    assert seen() == ("active", None)
    docs.settle()
    docs.exact()
    assert deep_runs(docs) == 1
    assert docs.plan().empty


def test_nothing_is_compared_where_nothing_was_missed(docs: Synced, seen: Look):
    assert seen() == ("active", None)
    docs.apply()
    assert deep_runs(docs) == 0


def test_a_disabled_trigger_may_be_meant_so_it_is_shown_and_made_up_for_once_it_is_enabled(
    docs: Synced, seen: Look
):
    docs.run("ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update", "UPDATE docs SET body = 'uno' WHERE id = 1")
    state, reason = seen()
    assert state == "misconfigured"
    assert reason == (
        "pgvector_sync_update on public.docs is disabled: changes are not captured: run "
        '`ALTER TABLE "public"."docs" ENABLE TRIGGER "pgvector_sync_update";`'
    )
    docs.run("INSERT INTO docs VALUES (4, 'four')")
    docs.settle_capture()  # what is captured is embedded all the while
    docs.run("ALTER TABLE docs ENABLE TRIGGER pgvector_sync_update")
    assert seen() == ("active", None)
    docs.settle()
    docs.exact()


def test_all_triggers_of_a_partitioned_table_disabled_are_one_problem(docs: Synced, seen: Look):
    docs.run(*PARTS)
    docs.pipeline("parts", source="parts")
    docs.run("ALTER TABLE parts DISABLE TRIGGER ALL")
    state, reason = seen("parts")
    assert state == "misconfigured"
    assert reason == (
        "pgvector_sync_delete, pgvector_sync_insert, pgvector_sync_truncate, pgvector_sync_update on public.parts and "
        "2 other tables are disabled: changes are not captured: run `pgvector-sync apply`"
    )
    docs.apply()
    assert seen("parts") == ("active", None)
    docs.run("UPDATE parts SET body = 'uno' WHERE id = 1", "DELETE FROM parts WHERE id = 101")
    assert sorted(docs.events()) == [[1], [101]]


def test_a_partition_attached_since_gets_its_truncate_trigger(docs: Synced, seen: Look):
    docs.run(*PARTS)
    docs.pipeline("parts", source="parts")
    docs.run("CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (200) TO (300)")
    assert seen("parts") == ("active", None)
    docs.run("INSERT INTO parts VALUES (201, 'new')")
    docs.sync()
    docs.run("TRUNCATE parts_3")
    docs.sync()
    assert deep_runs(docs) == 0


def test_a_worker_without_the_right_to_repair_says_what_to_run(docs: Synced, role: Callable[..., str]):
    worker = role("worker", *OURS, "GRANT SELECT ON docs TO {role}", "GRANT ALL ON docs_embedding TO {role}")
    docs.run("DROP TRIGGER pgvector_sync_update ON docs")
    with docs.acting_as(worker) as runtime:
        [verdict] = watch.look_now(runtime.database)
    assert verdict.problem is not None
    reason = docs.database.value("SELECT problem FROM pgvector_sync.pipeline")
    assert reason == (
        "public.docs lacks pgvector_sync_update: changes are not captured: run `pgvector-sync apply`"
    )
    docs.apply()
    assert docs.database.value("SELECT problem FROM pgvector_sync.pipeline") is None
    assert deep_runs(docs) == 1


def test_a_paused_pipeline_keeps_its_reason_and_is_compared_after_it_goes_on(docs: Synced, seen: Look):
    docs.run(
        "UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'a rest'",
        "DROP TRIGGER pgvector_sync_update ON docs",
        "UPDATE docs SET body = 'uno' WHERE id = 1",
    )
    assert seen() == ("paused", "a rest")
    assert deep_runs(docs) == 0
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL")
    seen()
    docs.settle()
    docs.exact()


def test_two_pipelines_of_one_source_are_both_compared(docs: Synced, seen: Look):
    docs.pipeline("notes", text=["note"])
    docs.run("DROP TRIGGER pgvector_sync_update ON docs", "UPDATE docs SET body = 'uno', note = 'n' WHERE id = 1")
    assert seen("notes") == ("active", None)
    assert deep_runs(docs) == 2
    docs.settle()
    docs.exact()


def test_the_watch_leaves_a_source_alone_whose_pipelines_are_being_removed(docs: Synced, seen: Look):
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'removing'", "DROP TRIGGER pgvector_sync_update ON docs")
    watch.look_now(docs.runtime.database)
    query = "SELECT count(*) FROM pg_trigger WHERE tgname = 'pgvector_sync_update'"
    assert docs.database.value(query) == 0
    docs.remove()


def test_a_table_named_like_a_source_of_another_schema_is_not_taken_for_it(docs: Synced, seen: Look):
    docs.run("CREATE SCHEMA other", DOCS.replace("docs", "other.docs"), "DROP TABLE docs CASCADE")
    assert seen()[0] == "misconfigured"


def test_a_deep_reconciliation_requested_meanwhile_does_not_replace_the_one_that_is_owed(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update")
    assert seen()[0] == "misconfigured"
    request_reconcile(docs.runtime.database, "docs", Reconcile(deep=True))
    docs.settle_capture()
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1", "ALTER TABLE docs ENABLE TRIGGER pgvector_sync_update")
    assert seen() == ("active", None)
    docs.settle()
    docs.exact()
    assert deep_runs(docs) == 2
