"""The vectors of all rows that one statement deletes are removed by one trigger, on a source that is a plain table."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from pgvector_sync.engine import watch
from pgvector_sync.observe.status import read_status
from support.examined import look, the
from support.shop import superuser
from support.synced import DIMENSIONS, Synced, session
from support.waiting import eventually

STORE = f"array_fill(1, ARRAY[{DIMENSIONS}])::vector, '\\x00', 'm', now()"
"""The values of a vector's row after its key."""


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    synced.filled("INSERT INTO docs SELECT g, 'row ' || g FROM generate_series(1, 6) g")
    return synced


def triggers(docs: Synced, table: str = "docs") -> set[str]:
    query = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"
    return {name.removeprefix("pgvector_sync_") for (name,) in docs.database.execute(query, table)}


def read_from_target(connection: psycopg.Connection[Any]) -> int:
    """The number of rows of the target that this transaction has read so far."""
    query = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'docs_embedding'"
    return int(connection.execute(query).fetchall()[0][0])


# -- plans -----------------------------------------------------------------------------------------------------

KEYS = {
    "one column": ("id bigint PRIMARY KEY", "id", "g"),
    "two columns": ("tenant int, id bigint, PRIMARY KEY (tenant, id)", "tenant, id", "1, g"),
    "three columns": ("a text, b uuid, c int, PRIMARY KEY (a, b, c)", "a, b, c", "'x', md5(g::text)::uuid, g"),
}


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.quick_variants(4)
def test_a_plan_kept_from_an_empty_target_looks_up_only_the_deleted_rows_in_a_full_one(
    synced: Synced, key: str, analyzed: bool
):
    columns, names, values = KEYS[key]
    synced.run(f"CREATE TABLE docs ({columns}, body text)")
    synced.pipeline()
    if analyzed:
        synced.run("VACUUM ANALYZE docs_embedding")
    with session(synced.database) as writer:
        writer.execute(f"INSERT INTO docs SELECT {values}, 'row' FROM generate_series(1, 2000) g")
        writer.execute("DELETE FROM docs")  # 2,000 rows and no vector: any plan would do
        writer.execute(f"INSERT INTO docs SELECT {values}, 'row' FROM generate_series(1, 2000) g")
        writer.execute(
            f"INSERT INTO docs_embedding ({names}, embedding, fingerprint, model, embedded_at) SELECT {names}, {STORE} FROM docs"
        )
        before = read_from_target(writer)
        writer.execute("DELETE FROM docs WHERE ctid = (SELECT max(ctid) FROM docs)")
        assert read_from_target(writer) - before <= 1
        writer.execute("DELETE FROM docs")
        assert writer.execute("SELECT count(*) FROM docs_embedding").fetchone() == (0,)


def test_a_plan_kept_from_a_delete_of_all_rows_looks_up_a_single_one(docs: Synced):
    docs.run(
        "INSERT INTO docs SELECT g, 'row' FROM generate_series(7, 2000) g",
        f"INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) SELECT g, {STORE} FROM generate_series(7, 2000) g",
        "ANALYZE docs, docs_embedding",
    )
    with session(docs.database) as writer:
        writer.execute("DELETE FROM docs WHERE id <= 1900")
        before = read_from_target(writer)
        writer.execute("DELETE FROM docs WHERE id = 1950")
        assert read_from_target(writer) - before <= 1
        assert writer.execute("SELECT count(*) FROM docs_embedding").fetchone() == (99,)


def test_large_texts_of_deleted_rows_are_not_read(docs: Synced):
    docs.run(
        "ALTER TABLE docs ALTER body SET STORAGE EXTERNAL",
        "UPDATE docs SET body = repeat('x', 100000)",
        "VACUUM docs",
    )
    read = """SELECT sum(pg_stat_get_xact_tuples_fetched(i.indexrelid))::int
              FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid WHERE c.oid = 'docs'::regclass"""
    taken = []
    for trigger in ("ENABLE", "DISABLE"):
        docs.run(f"ALTER TABLE docs {trigger} TRIGGER pgvector_sync_delete_vectors")
        with session(docs.database) as writer:
            writer.execute("DELETE FROM docs WHERE id = 1")
            taken += writer.execute(read).fetchall()
            writer.rollback()
    assert taken[0] == taken[1] > (0,)


# -- which rows ------------------------------------------------------------------------------------------------


def test_all_rows_deleted_by_a_cascade_lose_their_vectors_at_once(synced: Synced):
    synced.run(
        "CREATE TABLE books (id int PRIMARY KEY)",
        "CREATE TABLE docs (id int PRIMARY KEY, book int REFERENCES books ON DELETE CASCADE, body text)",
        "INSERT INTO books VALUES (1), (2), (3)",
        "INSERT INTO docs SELECT g, 1 + g % 3, 'row ' || g FROM generate_series(1, 9) g",
    )
    synced.pipeline()
    synced.run("DELETE FROM books WHERE id < 3")
    assert set(synced.vectors()) == {(2,), (5,), (8,)}
    synced.sync()


def test_rows_of_a_table_that_inherits_from_the_source_take_no_vector_of_the_sources_rows(docs: Synced):
    docs.run("CREATE TABLE more () INHERITS (docs)", "INSERT INTO more VALUES (1, 'another row')")
    docs.run("DELETE FROM docs WHERE body = 'another row'")
    assert (1,) in docs.vectors()
    docs.run("DELETE FROM docs WHERE id = 2")
    assert docs.events() == [[2]]
    docs.run("DROP TABLE more")
    docs.sync()
    assert set(docs.vectors()) == {(1,), (3,), (4,), (5,), (6,)}


def test_a_source_attached_to_a_partitioned_table_leaves_its_vectors_to_the_drain(docs: Synced):
    docs.run(
        "CREATE TABLE every (id bigint NOT NULL, body text, note text, unread text) PARTITION BY RANGE (id)",
        "ALTER TABLE every ATTACH PARTITION docs FOR VALUES FROM (0) TO (100)",
        "DELETE FROM every WHERE id = 1",
        "DELETE FROM docs WHERE id = 2",
    )
    assert docs.events() == [[1], [2]]
    docs.sync()
    assert set(docs.vectors()) == {(3,), (4,), (5,), (6,)}


def test_a_vector_that_is_written_meanwhile_is_removed_in_its_new_version(docs: Synced):
    with session(docs.database) as worker:
        worker.execute("UPDATE docs_embedding SET embedded_at = now() WHERE id <= 2")
        delete = threading.Thread(target=docs.run, args=("DELETE FROM docs WHERE id <= 3",))
        delete.start()
        eventually(docs.database.waiting_for_locks, what="the DELETE waits for the write")
        worker.commit()
    delete.join(10)
    assert set(docs.vectors()) == {(4,), (5,), (6,)}


def test_a_statement_in_the_same_session_after_a_key_was_renamed_is_captured_and_harmless(docs: Synced):
    with docs.database.connect() as writer:
        writer.execute("DELETE FROM docs WHERE id = 1")
        writer.execute("ALTER TABLE docs RENAME id TO was")
        writer.execute("DELETE FROM docs WHERE was = 2")
        assert set(docs.vectors()) == {(2,), (3,), (4,), (5,), (6,)}
        writer.execute("ALTER TABLE docs RENAME was TO id")
        writer.execute("DELETE FROM docs WHERE id = 3")
    assert set(docs.vectors()) == {(2,), (4,), (5,), (6,)}
    assert docs.events() == [[1], None, [3]]


# -- where it isn't used, or is missing ------------------------------------------------------------------------


@pytest.fixture
def replicated(docs: Synced) -> Synced:
    docs.owns("docs")
    docs.declare(capture_replicated=True)
    docs.apply()
    return docs


def test_a_source_with_replicated_changes_deletes_row_by_row_and_can_change_back(replicated: Synced):
    assert triggers(replicated) == {"insert", "update", "delete", "truncate"}
    assert replicated.database.value("SELECT to_regproc('pgvector_sync.remove_1')") is None
    with replicated.database.connect() as subscriber:
        subscriber.execute("SET session_replication_role = replica")
        subscriber.execute("DELETE FROM docs WHERE id = 1")
    assert (1,) not in replicated.vectors()
    replicated.declare()
    replicated.apply()
    assert triggers(replicated) == {"insert", "update", "delete", "truncate", "delete_vectors"}
    replicated.run("DELETE FROM docs WHERE id = 2")
    assert set(replicated.vectors()) == {(3,), (4,), (5,), (6,)}
    assert replicated.plan().empty


def test_where_temporary_files_are_limited_a_delete_keeps_no_rows_and_removes_vectors_row_by_row(docs: Synced):
    docs.run(
        f"ALTER DATABASE {docs.database.name} SET temp_file_limit = 0",
        "INSERT INTO docs SELECT g, repeat('x', 500) FROM generate_series(7, 2000) g",
        "TRUNCATE pgvector_sync.outbox",
    )
    with superuser(docs) as runtime:
        docs.apply(runtime)
        assert docs.plan(runtime).empty
    assert triggers(docs) == {"insert", "update", "delete", "truncate"}
    with docs.database.connect() as writer:
        writer.execute("SET work_mem = '64kB'")
        writer.execute("DELETE FROM docs WHERE id > 1")
    assert set(docs.vectors()) == {(1,)}
    assert len(docs.events()) == 1999


@pytest.mark.parametrize("fault", ["DROP TRIGGER {} ON docs", "ALTER TABLE docs DISABLE TRIGGER {}"])
def test_without_the_trigger_vectors_go_with_the_drain_and_only_doctor_says_so(docs: Synced, fault: str):
    docs.run(fault.format("pgvector_sync_delete_vectors"), "DELETE FROM docs WHERE id = 1")
    assert (1,) in docs.vectors()
    watch.look_now(docs.runtime.database)
    assert read_status(docs.runtime.database)[0].state == "active"
    docs.sync()
    finding = the("capture", look(docs.database.url))
    assert (finding.level, finding.advice) == ("warning", "pgvector-sync apply")
    assert "vectors of deleted rows are removed by the drain" in finding.seen
    [pending] = docs.apply().pending
    assert pending.missing_triggers == ("pgvector_sync_delete_vectors on public.docs",)
    docs.run("DELETE FROM docs WHERE id = 2")
    assert set(docs.vectors()) == {(3,), (4,), (5,), (6,)}
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reconcile'") == 0


def test_removing_the_pipeline_removes_trigger_and_function(docs: Synced):
    docs.remove()
    assert triggers(docs) == set()
    assert docs.database.value("SELECT count(*) FROM pg_proc WHERE prorettype = 'trigger'::regtype AND pronamespace = 'pgvector_sync'::regnamespace") == 0  # fmt: skip
