"""Columns and tables that are renamed, swapped, retyped or dropped under a pipeline (G15)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.synced import Synced

Look = Callable[..., tuple[str, str | None]]


def test_a_column_widened_by_swapping_names_is_noticed_and_captured_again(docs: Synced, seen: Look):
    docs.run(
        "ALTER TABLE docs ADD b text",
        "UPDATE docs SET b = body",
        "ALTER TABLE docs RENAME body TO body_old; ALTER TABLE docs RENAME b TO body",
        "UPDATE docs SET body = 'missed' WHERE id = 1",
    )
    assert docs.events() == []  # Postgres binds the trigger to column numbers
    assert seen() == ("active", None)
    docs.settle()  # the deep reconciliation that was owed
    docs.exact()
    docs.run("UPDATE docs SET body = 'seen' WHERE id = 2", "UPDATE docs SET body_old = 'old'")
    assert docs.events() == [[2]]
    docs.sync()


def test_a_table_swapped_for_a_copy_is_captured_and_compared(docs: Synced, seen: Look):
    docs.run(
        "CREATE TABLE n (LIKE docs INCLUDING ALL)",
        "INSERT INTO n SELECT * FROM docs",
        "ALTER TABLE docs RENAME TO o; ALTER TABLE n RENAME TO docs",
        "UPDATE docs SET body = 'missed' WHERE id = 1",
        "DELETE FROM docs WHERE id = 2",
        "INSERT INTO docs VALUES (4, 'missed, too')",
    )
    assert seen() == ("active", None)
    docs.settle()
    docs.exact()
    docs.run("UPDATE docs SET body = 'seen' WHERE id = 3", "UPDATE o SET body = 'elsewhere'")
    assert docs.events() == [[3]]
    docs.sync()
    docs.run("DROP TABLE o")


def test_a_swapped_table_is_captured_and_compared_by_apply_as_well(docs: Synced):
    docs.run(
        "CREATE TABLE n (LIKE docs INCLUDING ALL)",
        "INSERT INTO n SELECT * FROM docs",
        "ALTER TABLE docs RENAME TO o; ALTER TABLE n RENAME TO docs",
        "UPDATE docs SET body = 'missed' WHERE id = 1",
    )
    assert docs.apply().pipelines[0].missing_triggers
    docs.settle()
    docs.exact()
    assert docs.plan().empty


def test_a_renamed_column_stops_the_pipeline_and_says_where_it_went(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs RENAME body TO content", "UPDATE docs SET content = 'uno' WHERE id = 1")
    state, reason = seen()
    assert state == "misconfigured"
    assert "no longer has column body (its trigger now watches content: was it renamed?)" in (reason or "")
    docs.declare(text=["content"])
    docs.apply()
    docs.sync()
    assert seen() == ("active", None)


def test_a_renamed_column_that_is_renamed_back_needs_no_repair(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs RENAME body TO content")
    assert seen()[0] == "misconfigured"
    docs.run("ALTER TABLE docs RENAME content TO body", "UPDATE docs SET body = 'uno' WHERE id = 1")
    assert seen() == ("active", None)
    docs.sync()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO docs VALUES (9, 'nine')",
        "UPDATE docs SET body = 'uno' WHERE key = 1",
        "UPDATE docs SET key = 11 WHERE key = 1",
        "DELETE FROM docs WHERE key = 1",
        "TRUNCATE docs",
    ],
)
def test_no_statement_of_the_application_fails_after_a_rename_of_the_key(docs: Synced, seen: Look, statement: str):
    docs.run("ALTER TABLE docs RENAME id TO key", statement)
    docs.covered_by_events()
    state, reason = seen()
    assert state == "misconfigured"
    assert reason == "public.docs no longer has key column id: run `pgvector-sync apply`"
    docs.run("ALTER TABLE docs RENAME key TO id")
    assert seen() == ("active", None)
    docs.settle()
    docs.exact()
    seen()
    assert docs.events() == []


@pytest.mark.parametrize("retyped", ["uuid USING gen_random_uuid()", "text", "json USING to_json(id)"])
def test_no_statement_of_the_application_fails_after_the_key_gets_another_type(
    docs: Synced, seen: Look, retyped: str
):
    """The update trigger, whose condition names the key, has to be dropped for it."""
    docs.run(
        "DROP TRIGGER pgvector_sync_update ON docs",
        "ALTER TABLE docs DROP CONSTRAINT docs_pkey",
        f"ALTER TABLE docs ALTER id TYPE {retyped}",
        "UPDATE docs SET body = 'uno'",
        "DELETE FROM docs WHERE body = 'uno'",
    )
    state, reason = seen()
    assert state == "misconfigured"
    assert (reason or "").startswith("key column id of public.docs is ")


def test_no_statement_of_the_application_fails_after_the_targets_key_is_renamed(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs_embedding RENAME id TO doc_id", "DELETE FROM docs WHERE id = 1")
    assert seen() == (
        "misconfigured",
        "public.docs_embedding no longer has column id: run `pgvector-sync apply`",
    )
    docs.run("ALTER TABLE docs_embedding RENAME doc_id TO id")
    assert seen() == ("active", None)
    docs.sync()


@pytest.mark.parametrize(
    "obstacle",
    [
        (
            "CREATE TABLE likes (id bigint, chunk int, FOREIGN KEY (id, chunk) REFERENCES docs_embedding);"
            "INSERT INTO likes VALUES (1, 0)"
        ),
        (
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;"
            "CREATE TRIGGER no BEFORE DELETE ON docs_embedding FOR EACH ROW EXECUTE FUNCTION no()"
        ),
    ],
)
def test_no_delete_of_the_application_fails_because_the_target_refuses_it(docs: Synced, obstacle: str):
    docs.run(obstacle, "DELETE FROM docs WHERE id = 1")
    assert docs.events() == [[1]]
    assert docs.database.value("SELECT count(*) FROM docs") == 12


def test_a_dropped_target_is_noticed(docs: Synced, seen: Look):
    docs.run("DROP TABLE docs_embedding", "DELETE FROM docs WHERE id = 1")
    assert seen() == ("misconfigured", "there is no table public.docs_embedding: run `pgvector-sync apply`")


def test_a_dropped_source_is_noticed(docs: Synced, seen: Look):
    docs.run("DROP TABLE docs")
    assert seen() == (
        "misconfigured",
        "there is no table public.docs: restore it, or `pgvector-sync remove docs`",
    )


def test_a_renamed_source_is_noticed_by_its_triggers(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs RENAME TO papers", "UPDATE papers SET body = 'uno' WHERE id = 1")
    state, reason = seen()
    assert state == "misconfigured"
    assert (reason or "").startswith("there is no table public.docs; its triggers are on public.papers now")
    docs.run("ALTER TABLE papers RENAME TO docs")
    assert seen() == ("active", None)
    docs.sync()


def test_a_view_in_the_sources_place_is_noticed(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs RENAME TO papers", "CREATE VIEW docs AS SELECT * FROM papers")
    state, reason = seen()
    assert state == "misconfigured"
    assert (reason or "").startswith("public.docs is now a view")
    docs.run("INSERT INTO docs VALUES (5, 'five')", "DELETE FROM docs WHERE id = 1")


def test_a_lost_primary_key_is_noticed(docs: Synced, seen: Look):
    docs.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    assert seen() == (
        "misconfigured",
        "(id) is no longer a unique NOT NULL key of public.docs: restore its primary key",
    )
    docs.run("ALTER TABLE docs ADD PRIMARY KEY (id)")
    assert seen() == ("active", None)


def test_nothing_is_claimed_or_bought_while_a_pipeline_is_stopped(docs: Synced, seen: Look):
    paid = docs.paid()
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1", "ALTER TABLE docs RENAME id TO key")
    seen()
    assert docs.turns(3) is False
    assert docs.paid() == paid
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0


def test_another_vector_type_in_the_target_is_noticed(docs: Synced, seen: Look):
    docs.run("TRUNCATE docs_embedding", "ALTER TABLE docs_embedding ALTER embedding TYPE halfvec(9)")
    state, reason = seen()
    assert state == "misconfigured"
    assert (reason or "").startswith("public.docs_embedding holds halfvec(9), but the pipeline needs vector(8)")


def test_a_target_that_refuses_every_write_stops_the_pipeline_before_anything_is_bought(docs: Synced, seen: Look):
    docs.run(
        "ALTER TABLE docs_embedding ADD tenant_id int NOT NULL DEFAULT 1",
        "ALTER TABLE docs_embedding ALTER tenant_id DROP DEFAULT",
        "INSERT INTO docs VALUES (50, 'fifty')",
    )
    paid = docs.paid()
    assert seen() == (
        "misconfigured",
        (
            "public.docs_embedding refuses every write: column tenant_id is NOT NULL without a default: run "
            '`ALTER TABLE "public"."docs_embedding" ALTER COLUMN "tenant_id" SET DEFAULT …; or: … DROP NOT NULL;`'
        ),
    )
    docs.turns(2)
    assert docs.paid() == paid
    docs.run("ALTER TABLE docs_embedding ALTER tenant_id SET DEFAULT 1")
    assert seen() == ("active", None)
    docs.sync()
