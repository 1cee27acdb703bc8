"""A key whose columns are widened or renamed under existing pipelines, in the usual ways, during writes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgvector_sync.batch.claim import claim
from pgvector_sync.batch.embed import embed
from pgvector_sync.batch.process import _prepare
from pgvector_sync.batch.read import read
from pgvector_sync.batch.write import write
from pgvector_sync.capture.drain import Drain
from pgvector_sync.model import Lane
from support.beginnings import begins_with
from support.synced import DROP_TRIGGERS, Synced
from support.waiting import eventually, within

INTEGER = "CREATE TABLE docs (id int PRIMARY KEY, body text, note text)"
ROWS = "INSERT INTO docs SELECT g, 'text ' || g, 'note ' || g FROM generate_series(1, 30) g"
WIDEN = "ALTER TABLE docs ALTER id TYPE bigint"
SWAP = """
    BEGIN;
    ALTER TABLE docs DROP CONSTRAINT docs_pkey;
    ALTER TABLE docs RENAME id TO id_old;
    ALTER TABLE docs RENAME id_new TO id;
    ALTER TABLE docs ALTER id SET NOT NULL, ALTER id_old DROP NOT NULL, ADD PRIMARY KEY (id);
    DROP TRIGGER backfill_id_new ON docs;
    COMMIT
"""
PREPARE_SWAP = (
    "ALTER TABLE docs ADD id_new bigint",
    "CREATE FUNCTION backfill_id_new() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.id_new := new.id; RETURN new; END'",
    "CREATE TRIGGER backfill_id_new BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION backfill_id_new()",
    "UPDATE docs SET id_new = id",
)


def integer_keys(synced: Synced) -> None:
    synced.run(INTEGER, ROWS)
    synced.pipeline()


beginning, docs = begins_with(integer_keys)


def key_types(synced: Synced, table: str = "docs_embedding") -> list[tuple[str, str]]:
    query = """
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
    """
    return [
        row
        for row in synced.database.execute(query, table)
        if row[0] not in {"chunk_no", "chunk", "embedding", "fingerprint", "model", "embedded_at"}
    ]


@contextmanager
def writing(synced: Synced) -> Iterator[list[int]]:
    """Insert, update and delete continuously until the end of the block. No statement may fail."""
    stop, written, errors = threading.Event(), [], []

    def work() -> None:
        with synced.database.connect() as connection:
            for number in itertools.count(1_000):
                if stop.is_set():
                    return
                try:
                    connection.execute("INSERT INTO docs (id, body) VALUES (%s, %s)", [number, f"row {number}"])
                    connection.execute("UPDATE docs SET body = body || '!' WHERE id = %s", [number - 1])
                    connection.execute("DELETE FROM docs WHERE id = %s", [number - 3])
                except psycopg.Error as error:
                    errors.append(error)
                    return
                written.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield written
    finally:
        stop.set()
        thread.join(30)
    assert errors == []
    assert len(written) > 3


def more_written(written: list[int]) -> None:
    count = len(written)
    eventually(lambda: len(written) > count + 5, what="the application continues to write")


def test_a_key_widened_with_the_triggers_dropped_is_carried_over_by_apply(docs: Synced):
    with pytest.raises(psycopg.errors.FeatureNotSupported), docs.database.connect() as connection:
        connection.execute(WIDEN)  # Postgres refuses this while our trigger names the column
    docs.run(*DROP_TRIGGERS, WIDEN)
    plan = docs.plan()
    (rekey,) = plan.rekeys
    assert rekey.words == ["id integer → bigint"]
    (change,) = rekey.targets
    assert change.words == "rewrites public.docs_embedding and its indexes, 30 rows; searches wait meanwhile"
    assert not plan.empty
    assert plan.pending == []
    paid = docs.paid()
    docs.apply()
    assert key_types(docs) == [("id", "bigint")]
    docs.sync()
    assert docs.paid() == paid
    assert docs.plan().empty
    docs.run("INSERT INTO docs VALUES (5000000000, 'beyond an integer')", "DELETE FROM docs WHERE id = 1")
    docs.sync()
    assert (5_000_000_000,) in docs.vectors()


def test_changes_missed_while_the_triggers_were_off_are_found_by_the_deep_reconciliation(docs: Synced):
    docs.run(*DROP_TRIGGERS, WIDEN)
    docs.run("UPDATE docs SET body = 'unseen' WHERE id = 1", "DELETE FROM docs WHERE id = 2")
    docs.apply()
    docs.settle()
    docs.covered()
    docs.exact()


def test_a_key_widened_with_the_triggers_dropped_while_the_application_writes(docs: Synced):
    with writing(docs) as written:
        more_written(written)
        docs.run("BEGIN; " + "; ".join([*DROP_TRIGGERS, WIDEN]) + "; COMMIT")
        more_written(written)
        docs.apply()
    docs.settle()
    docs.covered()
    docs.exact()


def test_a_key_widened_by_swapping_columns_while_the_application_writes_loses_nothing(docs: Synced):
    with writing(docs) as written:
        docs.run(*PREPARE_SWAP)
        more_written(written)
        docs.run(SWAP)
        more_written(written)
        (rekey,) = docs.plan().rekeys
        assert rekey.words == ["id integer → bigint"]
        docs.apply()
    docs.settle()
    docs.covered()
    docs.exact()
    assert docs.plan().empty
    docs.run("ALTER TABLE docs DROP id_old", "UPDATE docs SET id = id + 5000000000 WHERE id = 1")
    docs.sync()


def test_a_row_beyond_the_old_type_that_came_before_apply_is_embedded_after_it(docs: Synced):
    docs.run(*PREPARE_SWAP, SWAP, "INSERT INTO docs (id, body) VALUES (5000000000, 'too early')")
    docs.settle()
    assert docs.dead() == [([5_000_000_000], "key_malformed")], "it can't be read as an integer"
    docs.apply()
    docs.settle()
    docs.exact()
    assert docs.dead() == []


@pytest.mark.parametrize(
    ("before", "after", "values"),
    [
        ("smallint", "integer", "g"),
        ("smallint", "bigint", "g"),
        ("varchar(4)", "varchar(40)", "'k' || g"),
        ("varchar(4)", "text", "'k' || g"),
        ('varchar(4) COLLATE "C"', 'text COLLATE "C"', "'k' || g"),
        ("numeric(6,2)", "numeric(12,4)", "g + 0.50"),
        ("numeric(6,2)", "numeric", "g + 0.50"),
    ],
)
@pytest.mark.quick_variants(3)
def test_every_widening_keeps_every_vector(synced: Synced, before: str, after: str, values: str):
    synced.run(
        f"CREATE TABLE docs (id {before} PRIMARY KEY, body text)",
        f"INSERT INTO docs SELECT {values}, 'text ' || g FROM generate_series(1, 9) g",
    )
    synced.pipeline()
    keys, paid = set(synced.vectors()), synced.paid()
    synced.run(*DROP_TRIGGERS, f"ALTER TABLE docs ALTER id TYPE {after}")
    synced.apply()
    synced.sync()
    assert (set(synced.vectors()), synced.paid()) == (keys, paid)
    assert key_types(synced)[0][1] == key_types(synced, "docs")[0][1]
    synced.run("UPDATE docs SET body = body || ' changed'")
    synced.sync()
    assert synced.plan().empty


def test_renamed_key_columns_are_carried_over_without_a_call(synced: Synced):
    synced.run(
        "CREATE TABLE docs (tenant text, id int, body text, PRIMARY KEY (tenant, id))",
        "INSERT INTO docs SELECT 't' || g % 2, g, 'text ' || g FROM generate_series(1, 20) g",
    )
    synced.pipeline()
    synced.run(*DROP_TRIGGERS, "ALTER TABLE docs RENAME id TO doc_id", "ALTER TABLE docs RENAME tenant TO shop")
    (rekey,) = synced.plan().rekeys
    assert rekey.words == ["tenant → shop", "id → doc_id"]
    assert rekey.targets[0].words == "alters public.docs_embedding: tenant → shop, id → doc_id"
    paid = synced.paid()
    synced.apply()
    assert [name for name, _ in key_types(synced)] == ["shop", "doc_id"]
    synced.sync()
    assert synced.paid() == paid
    synced.run("DELETE FROM docs WHERE doc_id = 1", "UPDATE docs SET body = 'x' WHERE doc_id = 2")
    synced.sync()
    assert synced.plan().empty


def test_all_pipelines_of_the_source_are_changed_together_even_those_missing_from_the_file(synced: Synced):
    synced.run(INTEGER, ROWS)
    synced.declare("bodies")
    synced.declare("notes", text=["note"])
    synced.apply()
    synced.sync()
    del synced.declared["notes"]
    synced.run(*DROP_TRIGGERS, WIDEN, "ALTER TABLE docs RENAME id TO doc_id")
    plan = synced.plan()
    (rekey,) = plan.rekeys
    assert (rekey.pipelines, plan.unlisted) == (("bodies", "notes"), ["notes"])
    synced.apply()
    for target in ("docs_embedding", "docs_notes_embedding"):
        assert key_types(synced, target) == [("doc_id", "bigint")]
    synced.run("UPDATE docs SET note = 'other' WHERE doc_id = 1")
    synced.sync()
    assert synced.plan().empty


def test_a_rename_and_a_new_text_that_reads_the_key_in_one_apply(docs: Synced):
    docs.declare(text={"sql": "id || ' ' || body"})
    docs.apply()
    docs.sync()
    docs.run(*DROP_TRIGGERS, "ALTER TABLE docs RENAME id TO doc_id")
    docs.declare(text={"sql": "doc_id || ' ' || body"})
    paid = docs.paid()
    docs.apply()
    docs.sync()
    assert docs.paid() == paid
    assert docs.plan().empty


def test_a_rename_that_was_another_column_ends_with_every_vector_at_its_own_row(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, other int NOT NULL UNIQUE, body text)",
        "INSERT INTO docs SELECT g, 31 - g, 'text ' || g FROM generate_series(1, 30) g",
    )
    synced.pipeline()
    synced.run(*DROP_TRIGGERS, "ALTER TABLE docs DROP id, ADD PRIMARY KEY (other)")
    synced.apply()
    synced.settle()
    synced.covered()
    synced.exact()


def test_a_batch_that_was_claimed_under_the_old_key_writes_nothing(docs: Synced):
    docs.run("UPDATE docs SET body = 'new ' || body WHERE id <= 3")

    Drain(docs.runtime.database, 100)(until=within(60))
    batch = claim(docs.runtime, "docs", Lane.LIVE)
    assert batch is not None
    reading = read(docs.runtime, batch)
    prepared = _prepare(batch, reading, embed(docs.runtime, batch, reading))
    docs.run(*DROP_TRIGGERS, WIDEN)
    docs.apply()
    written = write(docs.runtime, batch, prepared)
    assert not written.stored
    docs.settle()
    docs.exact()


def test_work_and_events_of_the_old_key_are_carried_over(docs: Synced):
    docs.run("UPDATE docs SET body = 'waits in work' WHERE id = 1")

    Drain(docs.runtime.database, 100)(until=within(60))
    docs.run("UPDATE docs SET body = 'waits in the outbox' WHERE id = 2", *DROP_TRIGGERS, WIDEN)
    docs.run("ALTER TABLE docs RENAME id TO doc_id")
    docs.apply()
    docs.covered()
    docs.sync()


def test_a_targets_key_column_that_was_renamed_by_hand_is_renamed_back(docs: Synced):
    docs.run("ALTER TABLE docs_embedding RENAME id TO doc_id")
    (rekey,) = docs.plan().rekeys
    assert (rekey.words, rekey.targets[0].words) == ([], "alters public.docs_embedding: doc_id → id")
    docs.apply()
    docs.sync()
    assert docs.plan().empty
