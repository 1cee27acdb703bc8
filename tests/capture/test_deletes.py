"""A deleted row's vectors are removed (G4): at once where possible, otherwise with the next drain."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from support.beginnings import begins_with, default_source
from support.synced import OURS, Synced, session
from support.waiting import eventually


def six_rows(synced: Synced) -> None:
    default_source(synced)
    synced.filled("INSERT INTO docs SELECT g, 'row ' || g FROM generate_series(1, 6) g")


beginning, docs = begins_with(six_rows)


def test_a_deleted_rows_vector_goes_in_the_same_transaction(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("DELETE FROM docs WHERE id <= 2")
        assert writer.execute("SELECT count(*) FROM docs_embedding").fetchone() == (4,)
        writer.rollback()
        assert set(docs.vectors()) == {(n,) for n in range(1, 7)}
        writer.execute("DELETE FROM docs WHERE id <= 2")
        writer.commit()
    assert set(docs.vectors()) == {(n,) for n in range(3, 7)}
    assert docs.events() == [[1], [2]]
    docs.sync()


def test_a_row_deleted_and_inserted_again_in_one_transaction_keeps_its_vector_until_it_is_looked_at(
    docs: Synced,
):
    with session(docs.database) as writer:
        writer.execute("DELETE FROM docs WHERE id = 1")
        writer.execute("INSERT INTO docs VALUES (1, 'row one, again')")
        writer.commit()
    docs.sync()
    assert docs.texts()[1,] == "row one, again"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_under_a_stricter_isolation_the_vector_goes_with_the_drain(docs: Synced, level: str):
    with session(docs.database) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writer.execute("DELETE FROM docs WHERE id = 1")
        writer.execute("UPDATE docs SET id = 20 WHERE id = 2")
        writer.commit()
    assert {(1,), (2,)} <= set(docs.vectors())
    docs.sync()
    assert set(docs.vectors()) == {(3,), (4,), (5,), (6,), (20,)}


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_no_serialization_failure_is_added_to_writers_whose_rows_are_being_drained_and_written(
    docs: Synced, level: str
):
    with session(docs.database) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writer.execute("SELECT 1 FROM docs WHERE id = 6").fetchall()  # takes the snapshot
        docs.run("UPDATE docs SET body = body || ' changed' WHERE id < 6")
        docs.settle()  # work rows and vectors younger than the writer's snapshot
        writer.execute("UPDATE docs SET body = 'mine' WHERE id = 6")
        writer.execute("INSERT INTO docs VALUES (7, 'new')")
        writer.execute("DELETE FROM docs WHERE id = 6")
        writer.commit()
    docs.sync()


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE docs", "TRUNCATE docs RESTART IDENTITY CASCADE", "TRUNCATE authors CASCADE"],
)
def test_a_truncate_leaves_one_event_and_the_drain_sweeps_the_target(docs: Synced, statement: str):
    docs.run(
        "CREATE TABLE authors (id int PRIMARY KEY)",
        "ALTER TABLE docs ADD author int REFERENCES authors",
        statement,
        "INSERT INTO docs VALUES (2, 'two is back'), (50, 'new')",
    )
    assert docs.events() == [None, [2], [50]]
    docs.sync()
    assert set(docs.vectors()) == {(2,), (50,)}


def test_a_truncate_that_is_rolled_back_removes_nothing(docs: Synced):
    with session(docs.database) as writer:
        writer.execute("TRUNCATE docs")
        writer.rollback()
    assert docs.events() == []
    docs.sync()
    assert len(docs.vectors()) == 6


def test_a_sweep_of_many_pages_removes_what_is_gone_and_keeps_what_came_back(docs: Synced, monkeypatch):
    monkeypatch.setattr("pgvector_sync.capture.drain.SWEEP_PAGE_ROWS", 2)
    with session(docs.database) as writer:
        writer.execute("TRUNCATE docs")
        writer.execute("INSERT INTO docs VALUES (1, 'row 1'), (4, 'row 4'), (6, 'other')")
        writer.commit()
    paid = docs.paid()
    docs.sync()
    assert docs.paid() == paid + 1  # rows 1 and 4 read as before


@pytest.mark.parametrize("many", ["DELETE", "UPDATE"])
def test_cascades_from_another_table_are_captured(synced: Synced, many: str):
    synced.run(
        "CREATE TABLE books (id int PRIMARY KEY)",
        """CREATE TABLE docs (book int REFERENCES books ON DELETE CASCADE ON UPDATE CASCADE, page int, body text,
                              PRIMARY KEY (book, page))""",
        "INSERT INTO books VALUES (1), (2)",
        "INSERT INTO docs VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c')",
    )
    synced.pipeline()
    synced.run("DELETE FROM books WHERE id = 1" if many == "DELETE" else "UPDATE books SET id = 10 WHERE id = 1")
    gone = [[1, 1], [1, 2]]
    assert sorted(synced.events()) == (gone if many == "DELETE" else [*gone, [10, 1], [10, 2]])
    synced.sync()
    assert set(synced.vectors()) == ({(2, 1)} if many == "DELETE" else {(2, 1), (10, 1), (10, 2)})


def test_a_cascade_that_sets_a_tracked_column_to_null_is_captured(synced: Synced):
    synced.run(
        "CREATE TABLE tags (name text PRIMARY KEY)",
        "CREATE TABLE docs (id int PRIMARY KEY, tag text REFERENCES tags ON DELETE SET NULL ON UPDATE CASCADE)",
        "INSERT INTO tags VALUES ('red'), ('blue')",
        "INSERT INTO docs VALUES (1, 'red'), (2, 'blue')",
    )
    synced.pipeline(text=["tag"])
    synced.run("DELETE FROM tags WHERE name = 'red'", "UPDATE tags SET name = 'green'")
    assert synced.events() == [[1], [2]]
    synced.sync()
    assert set(synced.vectors()) == {(2,)}


def test_a_target_dropped_by_hand_does_not_break_the_applications_deletes(docs: Synced):
    docs.run("DROP TABLE docs_embedding", "DELETE FROM docs WHERE id = 1", "UPDATE docs SET id = 20 WHERE id = 2")
    docs.run("TRUNCATE docs")
    assert docs.events() == [[1], [20], [2], None]


def test_a_target_dropped_by_hand_stops_its_pipeline_with_a_reason_and_leaves_the_rows_waiting(docs: Synced):
    docs.run("DROP TABLE docs_embedding", "UPDATE docs SET body = 'other' WHERE id = 2")
    with pytest.raises(AssertionError, match="not settled"):
        docs.settle(seconds=0.2)
    state, reason = docs.database.execute("SELECT state, reason FROM pgvector_sync.pipeline")[0]
    assert state == "misconfigured"
    assert "42P01" in reason
    assert docs.database.execute("SELECT key, attempts FROM pgvector_sync.work") == [([2], 0)]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE docs RENAME TO articles",
        "ALTER TABLE docs SET SCHEMA other",
        "ALTER TABLE docs RENAME COLUMN body TO content",
    ],
)
def test_a_source_that_was_renamed_still_serves_the_application(docs: Synced, change: str):
    docs.run("CREATE SCHEMA other", change)
    table = "other.docs" if "SCHEMA" in change else "articles" if "articles" in change else "docs"
    docs.run(f"DELETE FROM {table} WHERE id = 1", f"UPDATE {table} SET id = 20 WHERE id = 2")
    docs.run(f"INSERT INTO {table} VALUES (9, 'nine')", f"TRUNCATE {table}")
    assert docs.events() == [[1], [20], [2], [9], None]


@pytest.fixture
def shopkeeper(synced: Synced, role: Callable[..., str]) -> str:
    """A role with the least grants that has applied a pipeline on a table of another role, and synced its three rows."""
    synced.run(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.docs (id int PRIMARY KEY, body text)",
        "INSERT INTO shop.docs VALUES (3, 'three'), (2, 'two'), (1, 'one')",
    )
    name = role(
        "shopkeeper",
        *OURS,
        "GRANT USAGE, CREATE ON SCHEMA shop TO {role}",
        "GRANT SELECT, TRIGGER ON shop.docs TO {role}",
    )
    synced.declare(source="shop.docs")
    with synced.acting_as(name) as runtime:
        synced.apply(runtime)
        synced.settle(runtime=runtime)
    return name


@pytest.mark.parametrize(
    "change",
    [
        "REVOKE USAGE ON SCHEMA shop FROM {role}",
        "REVOKE SELECT ON shop.docs FROM {role}",
        "ALTER TABLE shop.docs_embedding OWNER TO CURRENT_USER",
        "REVOKE DELETE ON shop.docs_embedding FROM {role}",
    ],
)
def test_grants_that_the_worker_lost_do_not_break_the_applications_deletes(
    synced: Synced, shopkeeper: str, change: str
):
    synced.run(change.format(role=shopkeeper), "DELETE FROM shop.docs WHERE id = 1")
    synced.run("UPDATE shop.docs SET id = 20 WHERE id = 2")
    assert synced.events() == [[1], [20], [2]]


def test_keys_that_move_up_under_a_policy_that_hides_all_rows_from_us_delete_no_live_vector(
    synced: Synced, shopkeeper: str
):
    with synced.acting_as(shopkeeper) as runtime:
        synced.run("ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY")
        with session(synced.database) as writer:
            for key in (3, 2, 1):  # as the trigger sees it, no row has the old keys 3 and 2 any more
                writer.execute("UPDATE shop.docs SET id = id + 1 WHERE id = %s", [key])
            writer.execute("DELETE FROM shop.docs WHERE id = 4")
            writer.commit()
        assert set(synced.vectors()) == {(1,), (2,), (3,)}
        synced.run("ALTER TABLE shop.docs DISABLE ROW LEVEL SECURITY")
        synced.settle(runtime=runtime)
    synced.sync()
    assert set(synced.vectors()) == {(2,), (3,)}


@pytest.fixture
def other(docs: Synced):
    """Another session, which locks the whole target in a transaction that it doesn't end."""
    with session(docs.database) as connection:
        yield connection
        connection.rollback()


LOCKING = {
    "a plain CREATE INDEX": "CREATE INDEX ON docs_embedding (model)",
    "ALTER TABLE": "ALTER TABLE docs_embedding ADD COLUMN seen int",
    "a rewrite, as by VACUUM FULL": "CLUSTER docs_embedding USING docs_embedding_pkey",
}


@pytest.mark.parametrize("statement", LOCKING.values(), ids=LOCKING)
def test_deletes_and_key_changes_do_not_wait_for_a_lock_on_the_target(docs: Synced, other, statement: str):
    other.execute(statement)
    with docs.database.connect() as writer:
        writer.execute("SET lock_timeout = '1s'")
        writer.execute("DELETE FROM docs WHERE id <= 2")
        writer.execute("UPDATE docs SET id = 30 WHERE id = 3")
    other.commit()
    assert docs.events() == [[1], [2], [30], [3]]
    assert set(docs.vectors()) == {(n,) for n in range(1, 7)}
    docs.sync()
    assert set(docs.vectors()) == {(4,), (5,), (6,), (30,)}


def test_a_delete_does_not_queue_behind_ddl_that_waits_for_a_reader_of_the_target(docs: Synced, other):
    other.execute("SELECT count(*) FROM docs_embedding")
    ddl = threading.Thread(target=docs.run, args=("ALTER TABLE docs_embedding ADD COLUMN seen int",))
    ddl.start()
    eventually(docs.database.waiting_for_locks, what="ALTER TABLE waits for the reader")
    with docs.database.connect() as writer:
        writer.execute("SET lock_timeout = '1s'")
        writer.execute("DELETE FROM docs WHERE id = 1")
    other.commit()
    ddl.join(10)
    docs.sync()


def test_a_transaction_that_has_begun_to_delete_goes_on_while_ddl_waits_for_it(docs: Synced, other):
    other.execute("DELETE FROM docs WHERE id = 1")
    ddl = threading.Thread(target=docs.run, args=("ALTER TABLE docs_embedding ADD COLUMN seen int",))
    ddl.start()
    eventually(docs.database.waiting_for_locks, what="ALTER TABLE waits for the transaction")
    other.execute("DELETE FROM docs WHERE id = 2")
    other.commit()
    ddl.join(10)
    assert set(docs.vectors()) == {(3,), (4,), (5,), (6,)}
    docs.sync()


def test_while_an_index_is_built_concurrently_vectors_go_in_the_same_transaction(docs: Synced, other):
    other.execute("DELETE FROM docs WHERE id = 1")
    build = threading.Thread(target=docs.run, args=("CREATE INDEX CONCURRENTLY ON docs_embedding (model)",))
    build.start()
    eventually(docs.database.waiting_for_locks, what="the build waits for the transaction that was there before")
    docs.run("DELETE FROM docs WHERE id = 2")
    assert docs.database.value("SELECT count(*) FROM docs_embedding WHERE id = 2") == 0
    other.commit()
    build.join(10)
    docs.sync()


def test_looking_at_the_lock_uses_up_no_subtransaction(docs: Synced, other):
    if docs.database.server.version < 16:
        pytest.skip("pg_stat_get_backend_subxact came with PostgreSQL 16")
    docs.run("INSERT INTO docs SELECT g, 'row ' || g FROM generate_series(100, 199) g")
    docs.sync()
    other.execute("DELETE FROM docs")
    used = docs.database.execute(
        "SELECT s.subxact_count, s.subxact_overflowed FROM pg_stat_get_backend_idset() AS b, "
        "pg_stat_get_backend_subxact(b) AS s WHERE pg_stat_get_backend_pid(b) = %s",
        other.info.backend_pid,
    )
    assert used == [(0, False)]


@pytest.mark.parametrize("level", ["READ COMMITTED", "SERIALIZABLE"])
def test_a_transaction_that_deletes_inserts_again_and_swaps_keys_is_followed(docs: Synced, level: str):
    with session(docs.database) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        for old, new in ((1, -1), (2, 1), (-1, 2)):
            writer.execute("UPDATE docs SET id = %s WHERE id = %s", [new, old])
        writer.execute("DELETE FROM docs WHERE id = 3")
        writer.execute("INSERT INTO docs VALUES (3, 'three again')")
        writer.execute("DELETE FROM docs WHERE id = 3")
        writer.execute(
            "MERGE INTO docs USING (VALUES (4), (50)) AS v (id) ON docs.id = v.id "
            "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, 'new')"
        )
        writer.commit()
    docs.covered()
    docs.sync()
    assert docs.texts()[1,] == "row 2"
    assert set(docs.vectors()) == {(1,), (2,), (5,), (6,), (50,)}
