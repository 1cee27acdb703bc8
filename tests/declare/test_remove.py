"""Removing a pipeline removes everything it created, or keeps only its vectors."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import Refused
from support.synced import DOCS, Synced

OBJECTS = """
    SELECT 'class', relname FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'pgvector_sync'::regnamespace)
    UNION ALL SELECT 'trigger', tgname FROM pg_trigger
    UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'pgvector_sync'::regnamespace
    UNION ALL SELECT 'type', typname FROM pg_type WHERE typnamespace IN ('public'::regnamespace, 'pgvector_sync'::regnamespace)
    UNION ALL SELECT 'comment', description FROM pg_description WHERE description LIKE '%%pgvector-sync%%'
    ORDER BY 1, 2
"""
PARTITIONED = [
    "CREATE TABLE docs (id int PRIMARY KEY, body text, note text) PARTITION BY RANGE (id)",
    "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (100)",
]

OUR_FUNCTIONS = {"enqueue", "is_key", "key_fault", "add_each", "sum_each"}
"""Those of the migrations, which stay."""


def rows_of_ours(synced: Synced) -> dict[str, int]:
    tables = synced.database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind = 'r'"
    )
    counts = {t: synced.database.value(f"SELECT count(*) FROM pgvector_sync.{t}") for (t,) in tables}
    counts["lock"] -= 1  # held by the drain
    return {
        table: count for table, count in counts.items() if count and table not in ("applied_migration", "tick")
    }


@pytest.mark.parametrize("source", [[DOCS], PARTITIONED], ids=["plain", "partitioned"])
def test_removing_leaves_no_object_and_no_row(synced: Synced, source: list[str]):
    synced.run(*source, "INSERT INTO docs VALUES (1, 'one')")
    before = synced.database.execute(OBJECTS)
    synced.pipeline()
    synced.run("UPDATE docs SET body = 'uno'", "TRUNCATE docs", "INSERT INTO docs VALUES (2, 'two')")
    assert synced.database.execute(OBJECTS) != before
    synced.remove()
    assert synced.database.execute(OBJECTS) == before
    assert rows_of_ours(synced) == {}
    synced.run("INSERT INTO docs VALUES (3, 'three')", "DELETE FROM docs", "TRUNCATE docs")


def test_vectors_may_be_kept(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    before = dict.fromkeys(synced.database.execute(OBJECTS))
    synced.pipeline()
    synced.remove(keep_vectors=True)
    assert synced.database.value("SELECT count(*) FROM docs_embedding") == 1
    left = [name for _, name in synced.database.execute(OBJECTS) if (_, name) not in before]
    assert left != []
    assert all("docs_embedding" in name or "Embeddings of" in name for name in left)
    assert rows_of_ours(synced) == {}


def test_removing_one_of_two_pipelines_keeps_the_other_working(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'uno'), (2, 'two', 'dos')")
    synced.declare("bodies")
    synced.declare("notes", text=["note"])
    synced.apply()
    synced.sync()
    synced.run("UPDATE docs SET body = 'ONE', note = 'UNO' WHERE id = 1")
    synced.remove("bodies")
    synced.run("UPDATE docs SET body = 'no longer tracked' WHERE id = 2")
    assert synced.events() == [[1]]
    synced.sync()
    synced.run("DELETE FROM docs WHERE id = 2")
    assert set(synced.vectors("notes")) == {(1,)}
    synced.run("TRUNCATE docs")
    synced.sync()
    assert synced.plan().empty


def test_a_pipeline_may_be_declared_again_after_its_removal(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.remove()
    synced.pipeline(text=["body", "note"])
    synced.run("DELETE FROM docs")
    synced.sync()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE docs",
        "DROP TABLE docs_embedding",
        "ALTER TABLE docs RENAME TO articles",
        "DROP TABLE docs, docs_embedding",
    ],
)
def test_removing_works_whatever_became_of_source_and_target(synced: Synced, change: str):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.run(change)
    synced.remove()
    assert rows_of_ours(synced) == {}
    assert synced.database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'pgvector_sync'::regnamespace"
    assert {name for (name,) in synced.database.execute(functions)} == OUR_FUNCTIONS


def test_removing_an_unknown_pipeline_is_refused_with_the_known_ones(synced: Synced):
    synced.run(DOCS)
    synced.pipeline()
    with pytest.raises(Refused, match="nope") as refused:
        synced.remove("nope")
    assert "docs" in refused.value.hint


def test_a_removal_that_was_interrupted_stops_the_pipeline_and_is_finished_by_another(synced: Synced, monkeypatch):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pgvector_sync.capture.triggers.uninstall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synced.remove()
    synced.declare()
    synced.run("UPDATE docs SET body = 'uno'")
    with pytest.raises(Refused, match="it is being removed") as refused:
        synced.apply()
    assert "pgvector-sync remove docs" in refused.value.hint
    paid = synced.paid()
    synced.settle()
    assert synced.paid() == paid
    synced.remove()
    assert rows_of_ours(synced) == {}
