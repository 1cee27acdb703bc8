"""Sequences that begin anew, as after an upgrade by logical replication or a partial restore."""

from __future__ import annotations

from collections.abc import Callable

from pgvector_sync.engine import watch
from pgvector_sync.runs.requests import request_reembed
from support.synced import Synced

RESTART = "ALTER TABLE pgvector_sync.{} ALTER id RESTART WITH 1"


def test_the_application_never_fails_and_no_event_is_lost_where_ids_repeat(docs: Synced):
    docs.run("TRUNCATE docs_embedding, pgvector_sync.outbox", "UPDATE docs SET body = 'uno' WHERE id = 1")
    docs.run(RESTART.format("outbox"))
    for number in range(1, 11):
        docs.run(f"UPDATE docs SET body = 'n{number}' WHERE id = {number % 3 + 1}")
    docs.run(RESTART.format("outbox"), "TRUNCATE docs", "INSERT INTO docs VALUES (1, 'new')")
    assert docs.database.value("SELECT count(*) - count(DISTINCT id) FROM pgvector_sync.outbox") > 0
    docs.sync()


def test_a_sweep_that_ends_takes_no_event_of_the_same_transaction_but_another_source_along(docs: Synced):
    docs.run("CREATE TABLE others (id int PRIMARY KEY, body text)", "INSERT INTO others VALUES (1, 'one')")
    docs.pipeline("others", source="others")
    docs.run("TRUNCATE docs, others")
    docs.sync()
    assert docs.vectors() == docs.vectors("others") == {}


def test_the_watch_sets_sequences_that_are_behind(docs: Synced):
    docs.run(*map(RESTART.format, ("source", "pipeline", "run", "outbox")))
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1")
    watch.look_now(docs.owner.database)
    docs.run("CREATE TABLE others (id int PRIMARY KEY, body text)")
    docs.pipeline("others", source="others")
    request_reembed(docs.runtime.database, "docs")
    docs.sync()


def test_migrate_sets_sequences_that_are_behind(docs: Synced):
    from pgvector_sync.store.migrations import migrate

    docs.run(*map(RESTART.format, ("source", "pipeline", "run")))
    assert migrate(docs.database.url) == []
    request_reembed(docs.runtime.database, "docs")
    docs.sync()


def test_a_published_outbox_can_be_drained(docs: Synced):
    """As during an upgrade by logical replication: a table without an identity refuses deletes."""
    docs.run("CREATE PUBLICATION everything FOR ALL TABLES")
    docs.run("UPDATE docs SET body = 'uno' WHERE id = 1", "DELETE FROM docs WHERE id = 2", "TRUNCATE docs")
    docs.sync()


def test_a_worker_that_may_not_set_a_sequence_goes_on(docs: Synced, role: Callable[..., str]):
    limited = role(
        "worker",
        "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA pgvector_sync TO {role}",
    )
    docs.run(RESTART.format("run"))
    with docs.acting_as(limited) as runtime:
        watch.look_now(runtime.database)
    assert docs.database.value("SELECT last_value FROM pgvector_sync.run_id_seq") == 1
