"""Recall of real indexes over vectors of a real model: the figures are right, and what can't be measured is refused."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from pgvector_sync.errors import Refused
from pgvector_sync.index.recall import RecallReport, RecallRequest, measure
from pgvector_sync.model import Method, Storage
from support.beginnings import begins_with
from support.real_vectors import real_vectors, store
from support.synced import Synced

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")

ROWS, QUERIES, DIMENSIONS = 1_000, 30, 64
POOR = "hnsw (embedding vector_cosine_ops) WITH (m = 4, ef_construction = 8)"
"""An index that misses neighbours in so few rows, as a better one does in many."""
GOOD = "hnsw (embedding vector_cosine_ops)"
EASY = RecallRequest(target=0.9, database_share=1.0)


@functools.cache
def vectors() -> np.ndarray[Any, Any]:
    """The vectors of sentences of our docs, shortened: rows, and others that are queries."""
    shortened = real_vectors(ROWS + QUERIES)[:, :DIMENSIONS]
    return shortened / np.linalg.norm(shortened, axis=1, keepdims=True)


@dataclass
class Measured:
    """A pipeline with these vectors, and its measurements."""

    synced: Synced
    stored: np.ndarray[Any, Any]
    queries: list[list[float]]

    def index(self, definition: str, name: str = "near") -> None:
        self.synced.run(f"CREATE INDEX {name} ON docs_embedding USING {definition}")

    def measure(self, request: RecallRequest = EASY, **how: Any) -> RecallReport:
        runtime = self.synced.runtime
        return measure(runtime.database, runtime.settings, "docs", replace(request, **how))

    def refused(self, words: str, request: RecallRequest = EASY, **how: Any) -> str:
        with pytest.raises(Refused, match=words) as error:
            self.measure(request, **how)
        assert error.value.hint
        return error.value.hint

    def by_hand(self, query: list[float], k: int, *settings: str, condition: str = "true") -> tuple[float, int]:
        """The recall of the application's own statement, against neighbours that numpy finds, and its rows."""
        with self.synced.database.connect() as connection:
            keys = [key for (key,) in connection.execute(f"SELECT id FROM docs WHERE {condition}").fetchall()]
            similarity = self.stored[np.array(keys) - 1] @ np.array(query, dtype=np.float32)
            nearest = {keys[i] for i in np.argsort(-similarity, kind="stable")[:k]}
            for setting in ("enable_seqscan = off", "enable_sort = off", "enable_hashjoin = off", *settings):
                connection.execute(f"SET {setting}")
            rows = connection.execute(
                f"SELECT id FROM docs_embedding JOIN docs USING (id) WHERE {condition} "
                f"ORDER BY embedding <=> '{query}' LIMIT {k}"
            ).fetchall()
        return len(nearest & {key for (key,) in rows}) / len(nearest), len(rows)


def sentences(synced: Synced) -> None:
    """1,000 sentences, whose note is the remainder of their number by 50."""
    store(synced, vectors()[:ROWS], notes=50)


beginning, begun = begins_with(sentences)


@pytest.fixture
def docs(begun: Synced) -> Measured:
    return Measured(begun, vectors()[:ROWS], vectors()[ROWS:].tolist())


def test_recall_is_what_an_applications_own_statement_finds(docs: Measured) -> None:
    docs.index(POOR)
    report = docs.measure(vectors=docs.queries, values=[20, 80], iterative=["off"])
    assert (report.pipeline, report.rows, report.k, report.source_of_queries) == ("docs", ROWS, 10, "file")
    assert (report.index.name, report.index.method, report.index.storage) == ("near", Method.HNSW, Storage.VECTOR)
    for setting in report.settings:
        shares = [docs.by_hand(query, 10, f"hnsw.ef_search = {setting.value}")[0] for query in docs.queries]
        assert (setting.queries, setting.recall_mean) == (QUERIES, pytest.approx(np.mean(shares)))
        assert (setting.minimum, setting.p5) == (min(shares), sorted(shares)[1])
        assert setting.low < setting.recall_mean < setting.high
        assert timedelta(0) < setting.p50 <= setting.p95 <= setting.p99
    few, many = report.settings
    assert few.recall_mean < many.recall_mean


def test_a_condition_lowers_recall_without_an_iterative_scan(docs: Measured) -> None:
    docs.index(GOOD)
    condition = "note = '7'"
    report = docs.measure(vectors=docs.queries, where=condition, values=[40], iterative=["off", "relaxed_order"])
    assert report.rows == ROWS // 50
    off, relaxed = report.settings
    by_hand = [
        docs.by_hand(query, 10, "hnsw.ef_search = 40", condition=condition.replace("note", "docs.note"))
        for query in docs.queries
    ]
    assert off.recall_mean == pytest.approx(np.mean([share for share, _ in by_hand]))
    assert off.rows_returned_mean == pytest.approx(np.mean([rows for _, rows in by_hand]))
    assert off.rows_returned_mean < 3
    assert relaxed.rows_returned_mean == 10
    assert relaxed.recall_mean > 0.9
    assert any("without iterative scan, searches return" in finding for finding in report.findings)


def test_a_sweep_finds_the_smallest_setting_that_reaches_the_target(docs: Measured) -> None:
    docs.index(POOR)
    report = docs.measure(sweep=True, queries=40, target=0.7)
    values = [10, 20, 40, 60, 80, 120, 160, 240, 400, 800]
    assert [(each.value, each.iterative) for each in report.settings] == [(value, "off") for value in values[1:]]
    assert report.smallest is not None
    assert report.smallest.low >= 0.7
    assert all(each.low < 0.7 for each in report.settings if each.value < report.smallest.value)
    means = [each.recall_mean for each in report.settings]
    assert means[0] < means[-1] == max(means)
    assert report.source_of_queries == "rows"
    assert "vectors of rows" in report.findings[0]


def test_an_index_of_the_other_method_beside_it_isnt_used(docs: Measured) -> None:
    docs.index(GOOD)
    docs.index("ivfflat (embedding vector_cosine_ops) WITH (lists = 20)", "other")
    report = docs.measure(sweep=True, queries=5)
    assert report.settings[-1].recall_mean > 0.9


def test_a_sweep_tries_iterative_scans_only_where_the_index_may_return_too_few_rows(docs: Measured) -> None:
    docs.index(GOOD)
    modes = ["off", "strict_order", "relaxed_order"]
    filtered = docs.measure(sweep=True, queries=2, where="note = '7'")
    assert [each.iterative for each in filtered.settings if each.value == 20] == modes
    docs.synced.run("DROP INDEX near")
    docs.index(f"hnsw ((binary_quantize(embedding)::bit({DIMENSIONS})) bit_hamming_ops)")
    ranked_again = docs.measure(sweep=True, queries=2)
    assert [each.iterative for each in ranked_again.settings if each.value == 80] == modes
    assert [each.iterative for each in ranked_again.settings if each.value == 120] == ["off"], (
        "100 are ranked again"
    )


@pytest.mark.parametrize(
    ("definition", "storage"),
    [
        ("ivfflat (embedding vector_cosine_ops) WITH (lists = 20)", Storage.VECTOR),
        (f"hnsw ((embedding::halfvec({DIMENSIONS})) halfvec_cosine_ops)", Storage.HALFVEC),
        (f"hnsw ((binary_quantize(embedding)::bit({DIMENSIONS})) bit_hamming_ops)", Storage.BIT),
    ],
)
def test_every_kind_of_index_is_measured(docs: Measured, definition: str, storage: Storage) -> None:
    docs.index(definition)
    report = docs.measure(sweep=True, queries=10)
    method = Method(definition.split(maxsplit=1)[0])
    assert (report.index.method, report.index.storage) == (method, storage)
    first, last = report.settings[0], report.settings[-1]
    assert first.recall_mean <= 1
    assert first.recall_mean <= last.recall_mean
    if method is Method.IVFFLAT:
        assert [each.value for each in report.settings if each.iterative == "off"] == [1, 2, 4, 8, 16, 20]
        assert last.recall_mean == 1
        assert {each.iterative for each in report.settings} == {"off"}
    elif storage is Storage.HALFVEC:
        assert last.recall_mean > 0.99
    else:  # re-ranking more candidates reaches any recall
        assert 0.3 < first.recall_mean < 0.99 < last.recall_mean


@pytest.mark.parametrize(
    ("vector_type", "metric", "operator_class"),
    [("halfvec", "l2", "halfvec_l2_ops"), ("vector", "inner_product", "vector_ip_ops")],
)
def test_every_type_metric_and_key_is_measured(
    synced: Synced, vector_type: str, metric: str, operator_class: str
) -> None:
    synced.run(
        'CREATE TABLE "50% off" (shop int, "the %s" text, body text, PRIMARY KEY (shop, "the %s"))',
        """INSERT INTO "50% off" SELECT mod(n, 3), 'n' || n, 'text ' || n FROM generate_series(1, 120) n""",
    )
    synced.declare("docs", source='"50% off"', vector_type=vector_type, metric=metric)
    synced.apply()
    synced.settle()
    synced.run(f'CREATE INDEX near ON "50% off_embedding" USING hnsw (embedding {operator_class})')
    runtime = synced.runtime
    for where in (None, "shop = 1 AND \"the %s\" LIKE 'n%'"):
        report = measure(runtime.database, runtime.settings, "docs", replace(EASY, queries=40, where=where))
        assert (report.index.storage, report.rows) == (Storage(vector_type), 120 if where is None else 40)
        assert report.settings[0].recall_mean > (0.99 if where is None else 0.3)


def test_without_a_sweep_the_settings_of_the_role_are_measured(docs: Measured) -> None:
    docs.index(GOOD)
    docs.synced.run(
        f"ALTER DATABASE {docs.synced.database.name} SET hnsw.ef_search = 17",
        f"ALTER DATABASE {docs.synced.database.name} SET hnsw.iterative_scan = 'strict_order'",
    )
    docs.synced.runtime.database.close()
    with docs.synced.acting_as("sync_worker") as runtime:
        report = measure(runtime.database, runtime.settings, "docs", replace(EASY, queries=5))
    assert [(each.value, each.iterative) for each in report.settings] == [(17, "strict_order")]


def test_a_row_is_not_its_own_neighbour(docs: Measured) -> None:
    """The only other row that is as near as a row to itself would be an equal one."""
    docs.index(GOOD)
    docs.synced.run("DELETE FROM docs_embedding WHERE id > 2", "VACUUM docs_embedding")
    report = docs.measure(k=1)
    [setting] = report.settings
    assert (setting.queries, setting.recall_mean, setting.rows_returned_mean) == (2, 1.0, 1.0)
    assert "only 2 rows could be queries, 200 were wanted" in report.findings


def test_the_same_seed_chooses_the_same_queries(docs: Measured) -> None:
    docs.index(POOR)
    figures = [
        [(each.recall_mean, each.minimum) for each in docs.measure(queries=20, values=[12], seed=seed).settings]
        for seed in (1, 1, 2)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_nothing_is_written_and_the_time_of_the_database_is_shared(docs: Measured) -> None:
    docs.index(GOOD)
    seen: list[tuple[int, int]] = []
    runtime = docs.synced.runtime
    request = RecallRequest(queries=4, target=0.4, database_share=0.5)
    measure(runtime.database, runtime.settings, "docs", request, progress=lambda *at: seen.append(at))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    with runtime.database.transaction() as connection:
        assert connection.execute("SHOW transaction_isolation").fetchone() == {
            "transaction_isolation": "read committed"
        }
        for setting, value in (("enable_sort", "on"), ("hnsw.ef_search", "40")):
            assert connection.execute(f"SHOW {setting}").fetchone() == {setting: value}


def test_a_pause_that_would_exceed_the_time_limit_ends_the_measurement(docs: Measured) -> None:
    docs.index(GOOD)
    began = time.monotonic()
    report = docs.measure(queries=4, target=0.4, database_share=0.00001, time_limit=timedelta(seconds=2))
    assert [setting.queries for setting in report.settings] == [1]
    assert time.monotonic() - began < 2, "it didn't even begin the pause"


# -- bad input -----------------------------------------------------------------------------------------------


def test_there_is_nothing_to_measure_without_vectors_or_with_a_single_one(docs: Measured) -> None:
    docs.index(GOOD)
    docs.synced.run("DELETE FROM docs_embedding WHERE id > 1", "VACUUM docs_embedding")
    docs.refused("only one vector of docs may be a neighbour")
    assert docs.measure(vectors=docs.queries[:1], target=0.2).settings[0].recall_mean == 1
    docs.synced.run("DELETE FROM docs_embedding")
    assert "pgvector-sync status docs" in docs.refused("docs has no vectors of text-embedding-3-small yet")


def test_equal_vectors_are_said_to_show_nothing(docs: Measured) -> None:
    docs.synced.run("UPDATE docs_embedding SET embedding = (SELECT embedding FROM docs_embedding WHERE id = 1)")
    docs.index(GOOD)
    report = docs.measure(queries=40)
    assert report.settings[0].recall_mean == 1
    assert any("all at the same distance" in finding for finding in report.findings)


def test_k_above_the_rows_is_measured_and_said(docs: Measured) -> None:
    docs.index(GOOD)
    report = docs.measure(where="id <= 20", k=50, queries=40, values=[40], iterative=["off"])
    assert report.settings[0].rows_returned_mean < 19
    assert any("k is 50, and only 20 vectors may be neighbours" in finding for finding in report.findings)


def test_a_request_that_cannot_be_measured_is_refused(docs: Measured) -> None:
    docs.index(GOOD)
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        ({"where": "note = 'x'"}, "no vector of docs meets the condition"),
        ({"where": "nothing = 1"}, "the condition is not valid for public.docs"),
        ({"where": "true) OR (true"}, "the condition is not valid for public.docs"),
        ({"k": 0}, "expected k from 1 to 1,000, got 0"),
        ({"queries": 0}, "expected 1 to 10,000 queries, got 0"),
        ({"target": 1.5}, "expected a target between 0 and 1"),
        ({"database_share": 0.0}, "expected a database_share above 0"),
        ({"vectors": []}, "there are no query vectors"),
        ({"vectors": [[1.0, 2.0]]}, "expected query vectors of 64 dimensions, got 2"),
        ({"values": [2_000]}, "expected hnsw.ef_search from 1 to 1,000, got 2,000"),
    )
    for how, words in refusals:
        docs.refused(words, **how)


def test_an_index_that_searches_cannot_use_is_refused(docs: Measured) -> None:
    docs.refused("docs has no vector index: each search compares every vector, so its recall is 1")
    for definition, words in (
        ("hnsw (embedding vector_l2_ops)", r"by cosine can't use near \(vector_l2_ops of embedding\)"),
        ("hnsw (embedding vector_cosine_ops) WHERE id < 100", r"Postgres can't use near \(of embedding\)"),
        (
            "hnsw ((l2_normalize(embedding)::halfvec(64)) halfvec_cosine_ops)",
            r"Postgres can't use near \(of .*l2_normalize",
        ),
    ):
        docs.index(definition)
        docs.refused(words)
        docs.synced.run("DROP INDEX near")
    docs.index(GOOD)
    docs.synced.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'near'::regclass")
    docs.refused("near is invalid, so searches don't use it")


def test_an_index_of_another_extension_is_refused(docs: Measured) -> None:
    """As VectorChord's: an access method that isn't pgvector's."""
    docs.synced.run(
        "CREATE ACCESS METHOD vchordrq TYPE INDEX HANDLER hnswhandler",
        "CREATE OPERATOR CLASS cosine FOR TYPE vector USING vchordrq AS OPERATOR 1 <=> (vector, vector) "
        "FOR ORDER BY float_ops, FUNCTION 1 vector_negative_inner_product(vector, vector), "
        "FUNCTION 2 vector_norm(vector)",
    )
    docs.index("vchordrq (embedding cosine)")
    assert "the extension" in docs.refused("near uses vchordrq, which isn't part of pgvector")


def test_an_index_that_is_replaced_meanwhile_ends_the_measurement(docs: Measured) -> None:
    docs.index(GOOD)
    runtime = docs.synced.runtime

    def replace_index(done: int, _: int) -> None:
        if done == 2:
            docs.index(GOOD, "other")
            docs.synced.run("DROP INDEX near")

    with pytest.raises(Refused, match="some searches have used other instead of near"):
        measure(runtime.database, runtime.settings, "docs", EASY, progress=replace_index)


def test_a_statement_that_takes_too_long_is_given_up(docs: Measured) -> None:
    docs.index(GOOD)
    slow = "CASE WHEN id = 500 THEN pg_sleep(60)::text = '' ELSE true END"
    hint = docs.refused("a statement took longer than 0.2 s", where=slow, statement_timeout=timedelta(seconds=0.2))
    assert "--statement-timeout" in hint
