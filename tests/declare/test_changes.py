"""What the plan shows, what apply does, and what is paid for again."""

from __future__ import annotations

import pytest

from pgvector_sync.cli.plan import show
from pgvector_sync.errors import Refused
from support.beginnings import begins_with, default_source
from support.synced import DIMENSIONS, DOCS, Synced


def two_texts(synced: Synced) -> None:
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one', 'uno'), (2, 'two', 'dos'), (3, 'two', 'tres')")


beginning, docs = begins_with(two_texts)


def changes(synced: Synced) -> dict[str, tuple[str, str]]:
    (planned,) = synced.plan().pipelines
    return {change.what: (change.before, change.after) for change in planned.changes}


def test_a_first_apply_backfills_and_pays_once_per_distinct_text(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'same'), (2, 'same'), (3, 'other'), (4, NULL)")
    synced.declare()
    (planned,) = synced.plan().pending
    assert (planned.matching, planned.matching_exact, planned.backfill, planned.may_cost) == (4, True, True, True)
    assert planned.backfill_words == "embeds 4 rows with text-embedding-3-small"
    before = synced.paid()
    synced.apply()
    synced.sync()
    assert synced.paid() == before + 2


def test_making_a_plan_changes_nothing(synced: Synced):
    synced.run(DOCS)
    query = "SELECT count(*), max(oid) FROM pg_class"
    before = synced.database.execute(query)
    synced.declare()
    synced.plan()
    assert synced.database.execute(query) == before
    assert synced.names() == []


def test_applying_the_same_file_again_does_nothing(docs: Synced):
    paid = docs.paid()
    assert docs.plan().empty
    docs.apply()
    docs.sync()
    assert docs.paid() == paid
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.run") == 1
    assert docs.database.value("SELECT spec_version FROM pgvector_sync.pipeline") == 1


def test_a_changed_text_reads_every_row_again_and_pays_for_what_differs(docs: Synced):
    docs.declare(text={"sql": "CASE id WHEN 1 THEN note ELSE body END"})
    assert list(changes(docs)) == ["text"]
    (planned,) = docs.plan().pending
    assert planned.backfill_words == "reads 3 rows again, and embeds those whose text differs"
    paid = docs.paid()
    docs.apply()
    docs.sync()
    assert docs.paid() == paid + 1
    docs.run("UPDATE docs SET note = 'un' WHERE id = 1")  # tracked since the change
    assert docs.events() == [[1]]
    docs.sync()


def test_an_equivalent_expression_costs_nothing(docs: Synced):
    docs.declare(text={"sql": "body"})
    paid = docs.paid()
    docs.apply()
    docs.sync()
    assert docs.paid() == paid


def test_a_changed_where_removes_and_adds_and_pays_for_the_new_rows_only(docs: Synced):
    docs.declare(where="id <> 3")
    assert changes(docs) == {"where": ("(all rows)", "id <> 3")}
    paid = docs.paid()
    docs.apply()
    docs.sync()
    assert set(docs.vectors()) == {(1,), (2,)}
    assert docs.paid() == paid
    docs.declare(where="id <> 1")
    docs.apply()
    docs.sync()
    assert set(docs.vectors()) == {(2,), (3,)}
    assert docs.paid() == paid  # row 3 has the text of row 2
    docs.declare()
    docs.apply()
    docs.sync()
    assert docs.paid() == paid + 1


def test_a_changed_model_embeds_everything_again(docs: Synced):
    docs.declare(model="text-embedding-3-large")
    assert changes(docs) == {"model": ("text-embedding-3-small", "text-embedding-3-large")}
    (planned,) = docs.plan().pending
    assert planned.backfill_words == "embeds 3 rows with text-embedding-3-large"
    paid = docs.paid()
    docs.apply()
    docs.sync()
    assert docs.paid() == paid + 2
    assert docs.database.execute("SELECT DISTINCT model FROM docs_embedding") == [("text-embedding-3-large",)]


def test_an_option_that_affects_no_vector_changes_without_a_backfill(docs: Synced):
    docs.declare(batch_size=7, metric="l2")
    assert set(changes(docs)) == {"batch_size", "metric"}
    assert not docs.plan().pending[0].backfill
    docs.apply()
    docs.sync()
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.run") == 1
    assert docs.database.value("SELECT spec_version FROM pgvector_sync.pipeline") == 1


def test_other_dimensions_are_refused_while_the_target_holds_vectors(docs: Synced):
    docs.declare(dimensions=2 * DIMENSIONS)
    with pytest.raises(
        Refused, match=r"holds vector\(8\) vectors: changing it to vector\(16\) would discard them"
    ) as refused:
        docs.apply()
    assert "second pipeline" in refused.value.hint
    docs.declare(vector_type="halfvec")
    with pytest.raises(Refused, match=r"halfvec\(8\)"):
        docs.apply()
    docs.sync()


@pytest.mark.parametrize("other", [{"dimensions": 16}, {"vector_type": "halfvec"}])
def test_another_vector_type_is_applied_while_the_target_is_empty(synced: Synced, other: dict[str, object]):
    synced.run(DOCS)
    synced.pipeline()
    synced.declare(**other)
    synced.apply()
    column = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding'"
    column += " AND attrelid = 'docs_embedding'::regclass"
    assert synced.database.value(column) == ("vector(16)" if "dimensions" in other else "halfvec(8)")
    synced.run("INSERT INTO docs VALUES (1, 'one')")
    synced.settle()
    synced.covered()
    assert set(synced.vectors()) == {(1,)}


@pytest.mark.parametrize(
    ("other", "indexes", "refused"),
    [
        ({"vector_type": "halfvec"}, ["(embedding vector_cosine_ops)"], 1),
        ({"vector_type": "halfvec"}, ["(embedding vector_cosine_ops)", f"((embedding::halfvec({DIMENSIONS})) halfvec_l2_ops)"], 2),
        ({"dimensions": 16}, [f"((binary_quantize(embedding)::bit({DIMENSIONS})) bit_hamming_ops)"], 1),
        ({"dimensions": 16}, ["(embedding vector_cosine_ops)"], 0),
    ],
)  # fmt: skip
def test_another_vector_type_needs_other_indexes(
    synced: Synced, other: dict[str, object], indexes: list[str], refused: int
):
    synced.run(DOCS)
    synced.pipeline()
    synced.run("CREATE INDEX ON docs_embedding (lower(model))")
    synced.run(*(f"CREATE INDEX ON docs_embedding USING hnsw {index}" for index in indexes))
    synced.declare(**other)
    if refused:
        with pytest.raises(Refused, match=r"docs_embedding has indexes over vector\(8\): ") as refusal:
            synced.apply()
        statements = refusal.value.hint.splitlines()
        assert len(statements) == refused
        synced.run(*statements)
    synced.apply()
    synced.run("INSERT INTO docs VALUES (1, 'one')")
    synced.settle()
    assert set(synced.vectors()) == {(1,)}


def test_bits_and_euclidean_distances_are_named_as_a_doubtful_pair(
    docs: Synced, capsys: pytest.CaptureFixture[str]
):
    docs.declare(metric="l2", index={"method": "hnsw", "storage": "bit"})
    show(docs.plan(), {})
    assert "an index of bits compares only the signs of numbers" in " ".join(capsys.readouterr().out.split())


def test_a_backfill_interrupted_by_another_change_starts_again_and_ends_correctly(docs: Synced):
    docs.declare(text=["note"])
    docs.apply()
    docs.declare(text=["body", "note"])
    docs.apply()
    docs.sync()
    states = docs.database.execute("SELECT state FROM pgvector_sync.run ORDER BY id")
    assert states == [("finished",), ("cancelled",), ("finished",)]


def test_a_pipeline_missing_from_the_file_is_reported_and_left_alone(docs: Synced):
    docs.declare("other", text=["note"])
    docs.apply()
    del docs.declared["docs"]
    plan = docs.apply()
    assert plan.unlisted == ["docs"]
    assert plan.empty
    docs.run("UPDATE docs SET body = 'changed' WHERE id = 1")
    docs.sync()


def test_a_second_pipeline_has_a_target_named_after_it_and_keeps_it(docs: Synced):
    docs.declare("notes", text=["note"])
    docs.apply()
    docs.sync()
    targets = "SELECT name, target_table FROM pgvector_sync.pipeline ORDER BY name"
    assert docs.database.execute(targets) == [("docs", "docs_embedding"), ("notes", "docs_notes_embedding")]
    docs.declare("notes", text=["note"], target="elsewhere")
    with pytest.raises(Refused, match=r"the target can't be changed: it is public.docs_notes_embedding"):
        docs.apply()


def test_an_unlisted_pipeline_keeps_capturing_what_replication_brings(synced: Synced):
    synced.run(DOCS)
    synced.owns("docs")
    synced.pipeline(capture_replicated=True)
    synced.declared.clear()
    synced.declare("notes", text=["note"])
    synced.apply()
    enabled = synced.database.execute("SELECT DISTINCT tgenabled FROM pg_trigger WHERE NOT tgisinternal")
    assert enabled == [("A",)]


def test_two_new_pipelines_on_one_source_are_applied_at_once(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'uno')")
    synced.declare("bodies")
    synced.declare("notes", text=["note"])
    synced.apply()
    assert synced.plan().empty
    synced.sync()


def test_a_source_whose_key_has_another_column_is_refused_with_the_way_out(docs: Synced):
    docs.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id, body)")
    with pytest.raises(
        Refused, match=r"the key of public.docs was \(id bigint\) and is now \(id bigint, body text\)"
    ) as refused:
        docs.apply()
    assert "pgvector-sync remove docs" in refused.value.hint


def test_a_column_added_to_a_whole_row_text_is_tracked_from_the_next_apply_on(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'n')")
    synced.pipeline(text={"sql": "to_jsonb(docs) ->> 'extra'"})
    synced.run("ALTER TABLE docs ADD extra text")
    assert synced.plan().pending[0].missing_triggers != ()
    synced.apply()
    synced.run("UPDATE docs SET extra = 'x'")
    assert synced.events() == [[1]]
    synced.sync()
    assert synced.texts() == {(1,): "x"}


def test_a_renamed_source_is_refused_with_its_new_name(docs: Synced):
    docs.run("ALTER TABLE docs RENAME TO papers")
    with pytest.raises(Refused, match=r"there is no table docs; its triggers are on public.papers now") as refusal:
        docs.plan()
    assert "rename it back" in (refusal.value.hint or "")
