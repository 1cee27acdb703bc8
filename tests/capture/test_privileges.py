"""Who writes, with which rights, from where."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.errors import Refused
from support.synced import DOCS, Synced


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    synced.filled("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    return synced


def test_a_role_without_any_right_on_our_schema_writes_to_the_source_as_before(
    docs: Synced, role: Callable[..., str]
):
    writer = role("writer", "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON docs TO {role}")
    with docs.database.connect_as(writer) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM pgvector_sync.outbox")
        connection.execute("INSERT INTO docs VALUES (3, 'three')")
        connection.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
        connection.execute("UPDATE docs SET id = 10 WHERE id = 1")
        connection.execute("DELETE FROM docs WHERE id = 2")
        assert docs.events() == [[3], [1], [10], [1], [2]]
        assert set(docs.vectors()) == {(1,)}
        docs.sync()
        connection.execute("TRUNCATE docs")
        docs.sync()
    assert docs.vectors() == {}


def test_a_role_with_another_search_path_and_its_own_tables_and_operators_is_captured_the_same(
    docs: Synced, role: Callable[..., str]
):
    writer = role(
        "writer", "GRANT SELECT, UPDATE, DELETE ON docs TO {role}", "CREATE SCHEMA trap AUTHORIZATION {role}"
    )
    with docs.database.connect_as(writer) as connection:
        connection.execute("CREATE TABLE trap.outbox (id int, source_id int, key jsonb)")
        connection.execute(
            "CREATE FUNCTION trap.trapped(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
        connection.execute("CREATE OPERATOR trap.= (FUNCTION = trap.trapped, LEFTARG = bigint, RIGHTARG = bigint)")
        connection.execute("SET search_path = trap, pg_catalog, public")
        connection.execute("DELETE FROM public.docs WHERE body = 'two'")
    assert docs.events() == [[2]]
    assert set(docs.vectors()) == {(1,)}
    docs.sync()


def test_no_other_role_may_call_or_borrow_the_trigger_functions(docs: Synced, role: Callable[..., str]):
    stranger = role(
        "stranger", "GRANT CREATE ON SCHEMA public TO {role}", "GRANT USAGE ON SCHEMA pgvector_sync TO {role}"
    )
    with docs.database.connect_as(stranger) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        for function in ("insert_1", "update_1", "delete_1", "remove_1", "sweep_1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    f"CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION pgvector_sync.{function}()"
                )


def test_changes_that_replication_brings_are_not_captured_by_default(docs: Synced):
    with docs.database.connect() as subscriber:
        subscriber.execute("SET session_replication_role = replica")
        subscriber.execute("INSERT INTO docs VALUES (3, 'three')")
        subscriber.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
        subscriber.execute("DELETE FROM docs WHERE id = 2")
        subscriber.execute("TRUNCATE docs")
    assert docs.events() == []


def test_a_subscriber_that_embeds_for_itself_captures_replicated_changes_and_local_ones(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    synced.owns("docs")
    synced.pipeline(capture_replicated=True)
    for replication_role in ("replica", "origin"):
        with synced.database.connect() as writer:
            writer.execute(f"SET session_replication_role = {replication_role}")
            writer.execute("INSERT INTO docs VALUES (3, 'three')")
            writer.execute("UPDATE docs SET body = 'uno' WHERE id = 1")
            writer.execute("UPDATE docs SET note = 'n'")
            writer.execute("DELETE FROM docs WHERE id = 3")
            assert synced.events() == [[3], [1], [3]]
            synced.sync()
            writer.execute("TRUNCATE docs")
            writer.execute("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
            assert synced.events() == [None, [1], [2]]
            synced.sync()


def test_applying_again_does_not_reset_what_fires_always(synced: Synced):
    synced.run(DOCS)
    synced.owns("docs")
    synced.pipeline(capture_replicated=True)
    synced.declare(text=["body", "note"], capture_replicated=True)  # another definition of the update trigger
    synced.apply()
    enabled = synced.database.execute("SELECT DISTINCT tgenabled FROM pg_trigger WHERE NOT tgisinternal")
    assert enabled == [("A",)]
    synced.declare(text=["body", "note"])
    synced.apply()
    enabled = synced.database.execute("SELECT DISTINCT tgenabled FROM pg_trigger WHERE NOT tgisinternal")
    assert enabled == [("O",)]


def test_a_partitioned_subscriber_captures_what_is_written_into_its_partitions(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (100)",
    )
    synced.owns("docs")
    synced.declare(capture_replicated=True)
    with pytest.raises(Refused, match=r"requires the owner of public\.docs_1"):
        synced.apply()
    synced.owns("docs_1")
    synced.pipeline(capture_replicated=True)
    with synced.database.connect() as subscriber:  # the apply worker writes into partitions
        subscriber.execute("SET session_replication_role = replica")
        subscriber.execute("INSERT INTO docs_1 VALUES (1, 'one')")
        subscriber.execute("TRUNCATE docs_1")
    assert synced.events() == [[1], None]
    synced.sync()


def test_a_disabled_trigger_is_repaired_by_the_next_apply(docs: Synced):
    docs.run("ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update")
    assert docs.plan().pending[0].missing_triggers == ("pgvector_sync_update on public.docs",)
    docs.apply()
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1")
    assert docs.events() == [[1]]
    docs.sync()


def test_a_policy_on_the_source_that_binds_only_the_application_leaves_deletes_as_they_are(
    docs: Synced, role: Callable[..., str]
):
    writer = role("writer", "GRANT SELECT, DELETE ON docs TO {role}")
    docs.owns("docs")
    docs.run("ALTER TABLE docs ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON docs USING (id = 1)")
    with docs.database.connect_as(writer) as connection:
        connection.execute("DELETE FROM docs")
    assert docs.events() == [[1]]
    assert set(docs.vectors()) == {(2,)}
    docs.run("ALTER TABLE docs DISABLE ROW LEVEL SECURITY")
    docs.sync()
