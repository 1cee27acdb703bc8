"""Sources, targets, triggers, indexes and states: every fault is real, and fixed by following the advice."""

from __future__ import annotations

import pytest

from pgvector_sync.store import pipelines
from support import synced as with_endpoint
from support.examined import errors, follow_advice, look, the
from support.synced import Synced


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("capture", "ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update"),
        ("capture", "ALTER TABLE docs ENABLE REPLICA TRIGGER pgvector_sync_delete"),
        (
            "index",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_fingerprint_idx'::regclass",
        ),
    ],
)
def test_a_fault_that_the_advised_statement_fixes(docs: Synced, name: str, fault: str) -> None:
    docs.run(fault)
    assert follow_advice(docs.database, docs.database.url) == [name]


def test_a_dropped_trigger(docs: Synced) -> None:
    docs.run("DROP TRIGGER pgvector_sync_update ON docs")
    [error] = errors(look(docs.database.url))
    assert (error.name, error.pipeline) == ("capture", "docs")
    assert (error.advice or "").startswith("pgvector-sync apply; ")
    docs.apply()
    assert errors(look(docs.database.url)) == []


def test_a_dropped_target(docs: Synced) -> None:
    docs.run("DROP TABLE docs_embedding")
    found = the("target", look(docs.database.url))
    assert found.level == "error"
    assert "pgvector-sync remove docs, then pgvector-sync apply" in (found.advice or "")
    docs.remove()
    docs.pipeline()
    assert errors(look(docs.database.url)) == []


def test_a_target_of_another_type(docs: Synced) -> None:
    docs.run("TRUNCATE docs_embedding", "ALTER TABLE docs_embedding ALTER embedding TYPE halfvec(9)")
    found = the("target", look(docs.database.url))
    assert found.level == "error"
    assert "expected vectors of type vector(8), got halfvec(9)" in found.seen


def test_a_source_that_is_gone(docs: Synced) -> None:
    docs.run("DROP TABLE docs")
    found = the("source", look(docs.database.url))
    assert found.level == "error"
    assert "pgvector-sync remove docs" in (found.advice or "")
    docs.remove()
    assert errors(look(docs.database.url)) == []


def test_a_source_whose_expression_fails(docs: Synced) -> None:
    docs.run("CREATE FUNCTION loud(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)'")
    docs.declare(text={"sql": "public.loud(body)"})
    docs.apply()
    docs.settle()
    docs.run("DROP FUNCTION loud")
    found = the("source", look(docs.database.url))
    assert found.level == "error"
    assert "function public.loud(text) does not exist" in found.seen


def test_partitions(docs: Synced) -> None:
    docs.run(
        "CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    )
    docs.pipeline("parts", source="parts")
    docs.run("ALTER TABLE parts_1 DISABLE TRIGGER pgvector_sync_insert")
    assert follow_advice(docs.database, docs.database.url) == ["capture"]
    docs.run("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200)")
    checks = look(docs.database.url)
    assert errors(checks) == []
    assert "no TRUNCATE trigger on public.parts_2" in the("capture", checks).seen
    docs.apply()
    assert the("capture", look(docs.database.url)).level == "ok"
    docs.run("DROP TABLE parts_2")
    assert the("capture", look(docs.database.url)).level != "error", "old partitions are dropped every month"
    docs.apply()
    assert the("capture", look(docs.database.url)).level == "ok"


def test_the_vector_index(docs: Synced) -> None:
    docs.run("CREATE INDEX wrong ON docs_embedding USING hnsw (embedding vector_l2_ops)")
    found = the("index", look(docs.database.url))
    assert found.level == "warning"
    docs.run(found.advice or "")
    assert "hnsw, vector_cosine_ops" in the("index", look(docs.database.url)).seen


def test_states_and_dead_letters(docs: Synced) -> None:
    def resume() -> None:
        docs.runtime.database.retry_on_lock_conflict(lambda connection: pipelines.resume(connection, "docs"))

    docs.run(
        "UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = 'the key was rejected', retry_at = now()"
    )
    [error] = errors(look(docs.database.url))
    assert error.seen.startswith("misconfigured: the key was rejected")
    assert "pgvector-sync resume docs" in (error.advice or "")
    resume()
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'a rest'")
    assert the("state", look(docs.database.url)).level == "warning"
    resume()
    docs.run(f"UPDATE docs SET body = repeat('x', {with_endpoint.TEXT_LIMIT + 1}) WHERE id = 1")
    docs.settle()
    found = the("dead_letters", look(docs.database.url))
    assert found.level == "warning"
    assert (found.seen, found.pipeline) == ("dead letters: 1", "docs")
    assert "pgvector-sync dead-letters list docs" in (found.advice or "")
