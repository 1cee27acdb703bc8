"""A target kept by `remove --keep-vectors` or dropped by hand, and what the next apply does about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.errors import Refused
from support.beginnings import begins_with
from support.synced import DIMENSIONS, DOCS, OURS, Synced

ROWS = "INSERT INTO docs SELECT g, 'text ' || g FROM generate_series(1, 30) g"


def kept_target(synced: Synced) -> None:
    """A target of 30 vectors whose pipeline was removed."""
    synced.run(DOCS, ROWS)
    synced.pipeline()
    synced.remove(keep_vectors=True)


beginning, kept = begins_with(kept_target)


def test_a_kept_target_is_taken_over_and_nothing_is_bought_again(kept: Synced):
    kept.declare()
    (planned,) = kept.plan().pending
    assert planned.take_over is not None
    assert planned.take_over.words == "takes over public.docs_embedding, 30 vectors"
    paid = kept.paid()
    kept.apply()
    kept.sync()
    assert kept.paid() == paid
    assert kept.plan().empty


def test_rows_changed_meanwhile_are_embedded_and_vectors_of_deleted_rows_removed(kept: Synced):
    kept.run(
        "UPDATE docs SET body = 'changed' WHERE id = 1",
        "DELETE FROM docs WHERE id IN (2, 3)",
        "UPDATE docs SET id = 40 WHERE id = 4",
        "INSERT INTO docs VALUES (41, 'new')",
        "UPDATE docs SET body = NULL WHERE id = 5",
    )
    kept.declare()
    (planned,) = kept.plan().pending
    assert planned.take_over is not None
    words = "takes over public.docs_embedding, 30 vectors, of which 3 have no row and are removed"
    assert planned.take_over.words == words
    paid = kept.paid()
    kept.apply()
    kept.sync()
    assert kept.paid() == paid + 3  # the vector of row 4 was removed before row 40 was read
    assert len(kept.vectors()) == 28


def test_vectors_of_rows_that_no_longer_match_where_are_removed(kept: Synced):
    kept.declare(where="id > 10")
    paid = kept.paid()
    kept.apply()
    kept.sync()
    assert (len(kept.vectors()), kept.paid()) == (20, paid)


def test_another_model_embeds_every_row_again_in_the_target_that_was_taken_over(kept: Synced):
    kept.declare(model="text-embedding-3-large")
    paid = kept.paid()
    kept.apply()
    kept.sync()
    assert kept.paid() == paid + 30
    assert kept.database.execute("SELECT DISTINCT model FROM docs_embedding") == [("text-embedding-3-large",)]


def test_a_target_may_be_taken_over_by_a_pipeline_of_another_name_and_of_a_renamed_source(kept: Synced):
    kept.run("ALTER TABLE docs RENAME TO papers")
    kept.declare("papers", source="papers", target="docs_embedding")
    (planned,) = kept.plan().pending
    assert planned.take_over is not None
    assert planned.take_over.words == "takes over public.docs_embedding, 30 vectors of public.docs"
    assert planned.take_over.removes_vectors
    paid = kept.paid()
    kept.apply()
    kept.sync()
    assert kept.paid() == paid
    comment = kept.database.value("SELECT obj_description('docs_embedding'::regclass)")
    assert comment == "Embeddings of public.papers, kept by pgvector-sync (pipeline papers)"


def test_a_kept_target_gets_the_key_that_was_widened_and_renamed_meanwhile(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, body text)", ROWS)
    synced.pipeline()
    synced.remove(keep_vectors=True)
    synced.run("ALTER TABLE docs ALTER id TYPE bigint", "ALTER TABLE docs RENAME id TO doc_id")
    synced.declare()
    paid = synced.paid()
    synced.apply()
    synced.sync()
    assert synced.paid() == paid
    synced.run("INSERT INTO docs VALUES (5000000000, 'beyond an integer')", "DELETE FROM docs WHERE doc_id = 1")
    synced.sync()
    assert (5_000_000_000,) in synced.vectors()


def test_a_target_without_its_index_on_fingerprints_gets_one(kept: Synced):
    kept.run("DROP INDEX docs_embedding_fingerprint_idx")
    kept.declare()
    kept.apply()
    indexes = (
        "SELECT count(*) FROM pg_indexes WHERE tablename = 'docs_embedding' AND indexdef LIKE '%(fingerprint)'"
    )
    assert kept.database.value(indexes.replace("%", "%%")) == 1


def test_nullable_columns_of_your_own_are_kept(kept: Synced):
    kept.run("ALTER TABLE docs_embedding ADD tenant int NOT NULL DEFAULT 1, ADD note text")
    kept.declare()
    kept.apply()
    kept.sync()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "COMMENT ON TABLE docs_embedding IS NULL",
            "already exists and isn't a target kept by pgvector-sync",
        ),
        (
            "ALTER TABLE docs_embedding DROP CONSTRAINT docs_embedding_pkey",
            r"expected a primary key \(…, chunk_no\), got \(\)",
        ),
        (
            "ALTER TABLE docs_embedding ALTER id TYPE numeric",
            r"expected the key of public.docs \(id .*\), got \(id numeric\)",
        ),
        ("ALTER TABLE docs_embedding DROP chunk", "it has no column chunk"),
        ("ALTER TABLE docs_embedding ALTER model DROP NOT NULL", "its column model may be NULL"),
        (
            "ALTER TABLE docs_embedding ALTER fingerprint TYPE text USING 'x'",
            "expected column fingerprint bytea, got text",
        ),
        (
            "ALTER TABLE docs_embedding ADD tenant int; ALTER TABLE docs_embedding ALTER tenant SET NOT NULL",
            "its column tenant, which isn't ours, is NOT NULL without a default",
        ),
        (
            "ALTER TABLE docs_embedding RENAME TO other; CREATE VIEW docs_embedding AS SELECT * FROM other",
            "already exists",
        ),
    ],
)
@pytest.mark.quick_variants(4)
def test_what_does_not_fit_is_refused_with_what_differs(kept: Synced, change: str, reason: str):
    kept.run("TRUNCATE docs_embedding", *change.split("; "))
    kept.declare()
    with pytest.raises(Refused, match=reason) as refused:
        kept.apply()
    assert 'choose another name: target = "…" in [pipelines.docs]' in refused.value.hint
    assert kept.names() == []


def test_other_dimensions_are_refused_with_both(kept: Synced):
    kept.declare(dimensions=DIMENSIONS * 2)
    with pytest.raises(Refused, match=r"expected column embedding vector\(16\), got vector\(8\)"):
        kept.apply()


def test_a_target_of_another_role_is_refused_with_the_grant(kept: Synced, role: Callable[..., str]):
    worker = role("worker", *OURS, "GRANT ALL ON SCHEMA public TO {role}", "GRANT ALL ON docs TO {role}")
    kept.run(f"GRANT ALL ON docs_embedding TO {worker}")
    kept.declare()
    with (
        kept.acting_as(worker) as runtime,
        pytest.raises(Refused, match="taking over a target requires the owner"),
    ):
        kept.apply(runtime)


# -- a target dropped or changed while its pipeline exists ------------------------------------------------


def test_a_dropped_target_is_created_again_and_embedded_after_the_plan_has_said_so(synced: Synced):
    synced.run(DOCS, ROWS)
    synced.pipeline()
    synced.run("DROP TABLE docs_embedding")
    plan = synced.plan()
    (planned,) = plan.pending
    assert (plan.empty, planned.recreate, planned.may_cost) == (False, True, True)
    assert planned.backfill_words == "embeds 30 rows with text-embedding-3-small"
    paid = synced.paid()
    synced.apply()
    synced.sync()
    assert synced.paid() == paid + 30
    assert synced.plan().empty


def test_a_batch_claimed_before_the_target_was_created_again_writes_nothing(synced: Synced):
    synced.run(DOCS, ROWS)
    synced.pipeline()
    version = "SELECT spec_version FROM pgvector_sync.pipeline"
    before = synced.database.value(version)
    synced.run("DROP TABLE docs_embedding")
    synced.apply()
    assert synced.database.value(version) == before + 1
    synced.sync()


def test_a_dropped_target_may_get_other_dimensions_at_once(synced: Synced):
    synced.run(DOCS, ROWS)
    synced.pipeline()
    synced.run("DROP TABLE docs_embedding")
    synced.declare(dimensions=DIMENSIONS * 2, vector_type="halfvec")
    synced.apply()
    synced.settle()
    synced.covered()
    assert synced.plan().empty
    kind = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'docs_embedding'::regclass AND attname = 'embedding'"
    assert synced.database.value(kind) == "halfvec(16)"


def test_a_target_whose_shape_no_longer_fits_its_pipeline_is_refused_with_what_differs(synced: Synced):
    synced.run(DOCS, ROWS)
    synced.pipeline()
    synced.run("ALTER TABLE docs_embedding ALTER embedding TYPE halfvec(8)")
    with pytest.raises(Refused, match=r"expected column embedding vector\(8\), got halfvec\(8\)") as refused:
        synced.plan()
    assert "undo the manual change" in refused.value.hint
    synced.run("ALTER TABLE docs_embedding ALTER embedding TYPE vector(8)")
    assert synced.plan().empty
