"""`index advise` on real vectors: what it reads is true, and its advice, followed, reaches the recall."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from pgvector_sync import Refused, Sync
from pgvector_sync.observe.index_advice import IndexAdvice
from support.beginnings import begins_with
from support.client import sync_as
from support.real_vectors import DIMENSIONS, Vectors, fill, real_vectors, store
from support.roles import MONITOR, WORKER
from support.synced import DOCS, MODEL, Synced

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")

ROWS = 1_500
AT_ONCE = timedelta(microseconds=1)
"""Less than any exact search takes, so that an index is advised for few rows too."""
HELD_OUT = 60


def sentences(synced: Synced) -> None:
    store(synced, real_vectors(ROWS))


beginning, docs = begins_with(sentences)


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, WORKER) as sync:
        yield sync


def planner(advice: IndexAdvice) -> str:
    return "\n".join(finding.seen for finding in advice.planner)


def follow(docs: Synced, advice: IndexAdvice) -> None:
    """Executes the statements of an advice, except that of searches."""
    with docs.database.connect() as connection:
        for statement in advice.sql:
            if not statement.startswith("SET LOCAL"):
                connection.execute(statement)
        connection.execute("ANALYZE docs_embedding")


def test_few_vectors_need_no_index_and_the_time_of_exact_searches_was_measured(sync: Sync) -> None:
    advice = sync.index_advise("docs", latency=timedelta(seconds=1))
    assert (advice.advised.method, advice.advised.storage, advice.sql, advice.section) == (
        "exact",
        "vector",
        (),
        None,
    )
    assert (advice.vectors, advice.rows_planned, advice.dimensions) == (ROWS, ROWS, DIMENSIONS)
    assert advice.exact is not None
    assert timedelta(0) < advice.exact < timedelta(seconds=1)
    assert advice.problems == ()
    assert "growth is unknown" in "\n".join(advice.reasons)


def test_what_the_file_declares_beside_the_index_is_kept(docs: Synced, sync: Sync) -> None:
    docs.declare(
        dimensions=DIMENSIONS, index={"recall": 0.9, "window": "01:00-05:00", "method": "ivfflat", "lists": 3}
    )
    docs.apply()
    advice = sync.index_advise("docs", latency=AT_ONCE)
    assert advice.recall == 0.9
    assert advice.section is not None
    section = tomllib.loads(advice.section)["pipelines"]["docs"]["index"]
    assert section["method"] == "hnsw"
    assert (section["recall"], section["window"], section.get("lists")) == (0.9, "01:00-05:00", None)
    assert sync.index_advise("docs", latency=AT_ONCE, recall=0.99).recall == 0.99


@pytest.mark.slow
def test_the_advised_statements_build_what_searches_then_use(docs: Synced, sync: Sync) -> None:
    advice = sync.index_advise("docs", latency=AT_ONCE)
    assert advice.advised.method == "hnsw"
    assert advice.sql[-1].startswith("SET LOCAL hnsw.ef_search = 100;")
    follow(docs, advice)
    [target] = sync.index_status("docs")
    [index] = target.indexes
    assert (index.name, index.valid) == ("docs_embedding_hnsw", True)
    assert index.parameters == ("m=16", "ef_construction=64")
    assert advice.advised.bytes is not None
    assert index.bytes == pytest.approx(advice.advised.bytes, rel=0.05)
    seen: list[tuple[int, int]] = []
    again = sync.index_advise("docs", latency=AT_ONCE, progress=lambda *now: seen.append(now))
    assert (again.advised.keep, again.advised.measured) == ("docs_embedding_hnsw", True)
    assert again.sql == (
        f"SET LOCAL hnsw.ef_search = {again.advised.value}; -- in each transaction that searches",
    )
    assert seen[-1] == (200, 200)
    assert sync.index_advise("docs", latency=AT_ONCE, measure=False).advised.measured is False


def test_the_time_of_the_next_build_comes_from_the_last_one(docs: Synced, sync: Sync) -> None:
    assert sync.index_advise("docs", latency=AT_ONCE).advised.build_time is None
    docs.run(
        "INSERT INTO pgvector_sync.index_build (pipeline_id, state, definition, replace, declared, attempts, started_at, "
        f"ended_at, rows) SELECT id, 'done', '{{\"method\": \"hnsw\"}}', false, false, 1, now() - interval '7 s', now(), {ROWS} "
        "FROM pgvector_sync.pipeline"
    )
    assert sync.index_advise("docs", latency=AT_ONCE).advised.build_time == timedelta(seconds=7)


def test_the_section_is_accepted_by_apply(docs: Synced, sync: Sync) -> None:
    section = sync.index_advise("docs", latency=AT_ONCE, recall=0.98).section
    assert section is not None
    index = tomllib.loads(section)["pipelines"]["docs"]["index"]
    assert index == {"method": "hnsw", "ef_construction": 128, "recall": 0.98}
    docs.declare(dimensions=DIMENSIONS, index=index)
    docs.apply()
    assert docs.shape().pipeline.options.index.recall == 0.98


def test_growth_and_churn_come_from_the_history(docs: Synced, sync: Sync) -> None:
    docs.run(
        "INSERT INTO pgvector_sync.history (pipeline_id, at, waiting, in_flight, dead, source_rows, fresh_rows, rows_per_second) "
        "SELECT id, now() - n * interval '6 hours', 0, 0, 0, 2000 - n * 25, 1900 - n * 25, 0.01 "
        "FROM pgvector_sync.pipeline, generate_series(0, 8) n"
    )
    advice = sync.index_advise("docs")
    assert advice.growth_per_day == pytest.approx(100)
    assert advice.churn_per_day == pytest.approx(0.01 * 86_400 - 100)
    assert advice.rows_planned == 2_000 + 90 * 100
    docs.run("DELETE FROM pgvector_sync.history WHERE at < now() - interval '20 hours'")
    assert sync.index_advise("docs").growth_per_day is None, "less than a day says nothing"


@pytest.mark.slow
def test_postgres_is_asked_whether_it_uses_an_index(docs: Synced, sync: Sync) -> None:
    assert "EXPLAIN" not in planner(sync.index_advise("docs", measure=False))
    docs.run(
        "CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)", "ANALYZE docs_embedding"
    )
    found = planner(sync.index_advise("docs", measure=False))
    assert "EXPLAIN: searches for" in found
    docs.run(f"ALTER DATABASE {docs.database.name} SET enable_seqscan = off")
    with sync_as(docs.database, WORKER) as reconnected:
        assert "10 rows without a condition use a vector index" in planner(
            reconnected.index_advise("docs")
        ).replace("10, 100", "10")


@pytest.mark.slow
def test_a_condition_that_few_rows_meet_is_named_with_its_share(docs: Synced, sync: Sync) -> None:
    docs.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    found = planner(sync.index_advise("docs", measure=False, where="note = '7'"))
    assert f"about 15 of {ROWS:,} rows meet the condition" in found
    assert "with this condition compare all vectors that qualify" in found
    assert "ends after 20,000 entries" in planner(sync.index_advise("docs", measure=False, where="id = 7"))
    with pytest.raises(Refused):
        sync.index_advise("docs", where="no_such_column = 1")


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("hnsw (embedding vector_l2_ops)", "is of another metric, kind or expression"),
        ("hnsw (embedding vector_cosine_ops) WHERE id < 9", "is partial"),
    ],
)
def test_an_index_that_no_search_can_use_is_not_kept(
    docs: Synced, sync: Sync, definition: str, words: str
) -> None:
    docs.run(f"CREATE INDEX other ON docs_embedding USING {definition}")
    advice = sync.index_advise("docs", latency=AT_ONCE)
    assert advice.advised.keep is None
    assert words in planner(advice)


def test_vectors_stored_out_of_line_look_cheaper_than_they_are(synced: Synced) -> None:
    wide = np.repeat(real_vectors(200), 3, axis=1)
    store(synced, wide / np.linalg.norm(wide, axis=1, keepdims=True))
    with sync_as(synced.database, WORKER) as sync:
        assert "out of line (TOAST)" in planner(sync.index_advise("docs", measure=False))


def test_vectors_that_cannot_be_ordered_have_a_clear_answer(docs: Synced, sync: Sync) -> None:
    def problem() -> str:
        advice = sync.index_advise("docs", latency=AT_ONCE)
        assert advice.advised.method == "exact"
        return advice.problems[0].seen

    fill(docs, np.repeat(real_vectors(1), 40, axis=0))
    assert problem() == "all 40 sampled vectors are equal: no index, and no search, can order them"
    fill(docs, real_vectors(1))
    assert "one vector" in problem()
    docs.run("TRUNCATE docs_embedding")
    assert "no vectors yet" in problem()
    fill(docs, np.zeros((30, DIMENSIONS), dtype=np.float32))
    assert "all 30 sampled vectors are equal" in problem()


@pytest.mark.slow
def test_a_halfvec_column_and_another_metric_are_advised_as_well(synced: Synced) -> None:
    store(synced, real_vectors(300), vector_type="halfvec", metric="l2")
    with sync_as(synced.database, WORKER) as sync:
        advice = sync.index_advise("docs", latency=AT_ONCE)
        assert (advice.advised.method, advice.advised.storage) == ("hnsw", "halfvec")
        follow(synced, advice)
        assert sync.index_advise("docs", latency=AT_ONCE, measure=False).advised.keep == "docs_embedding_hnsw"


@pytest.mark.slow
def test_bits_are_advised_if_nothing_else_fits_and_reach_a_recall_that_the_sample_promised(
    docs: Synced, sync: Sync
) -> None:
    small: dict[str, Any] = {"latency": AT_ONCE, "memory": 1_200_000, "recall": 0.9}
    advice = sync.index_advise("docs", **small)
    assert (advice.advised.method, advice.advised.storage) == ("hnsw", "bit")
    assert ["a search through an index takes" in problem.seen for problem in advice.problems] == [True]
    follow(docs, advice)
    again = sync.index_advise("docs", **small)
    assert (again.advised.keep, again.advised.measured) == ("docs_embedding_bit_hnsw", True)


def test_a_name_with_spaces_and_percent_signs_is_quoted(synced: Synced) -> None:
    synced.run(DOCS)
    synced.declare(dimensions=4, target='public."odd name of 100%"')
    synced.apply()
    synced.run(
        'INSERT INTO "odd name of 100%" (id, embedding, fingerprint, model, embedded_at) '
        f"SELECT n, ARRAY[n, 1, 2, 3]::vector, '', '{MODEL}', now() FROM generate_series(1, 50) n"
    )
    with sync_as(synced.database, WORKER) as sync:
        advice = sync.index_advise("docs", latency=AT_ONCE)
    with synced.database.connect() as connection:
        for statement in advice.sql[:-1]:
            connection.execute(statement)
    [(name,)] = synced.database.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'")
    assert name == "odd name of 100%_hnsw"


def test_a_role_that_may_not_read_the_vectors_is_told(docs: Synced) -> None:
    with (
        sync_as(docs.database, MONITOR) as sync,
        pytest.raises(Refused) as error,
    ):
        sync.index_advise("docs")
    assert error.value.hint


@pytest.mark.usefixtures("docs")
def test_the_command_says_why_and_exits_with_1_if_a_goal_is_out_of_reach(
    docs: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url)
    code, printed, _ = command_line("index", "advise", "docs", "--latency-ms", "5000")
    assert code == 0
    assert "docs: no vector index: compare all vectors" in printed
    code, printed, _ = command_line("index", "advise", "docs", "--latency-ms", "0.01", "--memory", "8GB")
    assert code == 1, "no search is that fast"
    assert "docs: hnsw over vector, m = 16, ef_construction = 64" in printed
    assert "[pipelines.docs.index]" in printed
    assert "  hnsw.ef_search  100, a start value" in printed
    assert "over 0.01 ms" in printed
    assert 'CREATE INDEX CONCURRENTLY "docs_embedding_hnsw"' in printed
    assert "WITH (m = 16, ef_construction = 64);\n" in printed, "statements can be pasted into psql"
    code, printed, _ = command_line("index", "advise", "docs", "--json", "--latency-ms", "5000")
    assert json.loads(printed)["advice"]["advised"]["method"] == "exact"
    for arguments, words in [
        (["--memory", "lots"], "isn't a size"),
        (["--recall", "1.5"], "--recall"),
        (["--filter", "; drop"], "condition"),
    ]:
        code, _, error = command_line("index", "advise", "docs", *arguments)
        assert code != 0
        assert words in error


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_advice_reaches_the_recall_on_held_out_queries_for_ten_seeds(docs: Synced) -> None:
    vectors, recall = real_vectors(2_000 + HELD_OUT), 0.95
    docs.declare(dimensions=DIMENSIONS, index={"database_share": 1.0})
    docs.apply()
    reached = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(vectors))
        stored, queries = vectors[order[HELD_OUT:]], vectors[order[:HELD_OUT]]
        docs.run("DROP INDEX IF EXISTS docs_embedding_hnsw")
        fill(docs, stored)
        with sync_as(docs.database, WORKER) as sync:
            follow(docs, sync.index_advise("docs", latency=AT_ONCE, recall=recall))
            advice = sync.index_advise("docs", latency=AT_ONCE, recall=recall)
        reached.append(recall_of(docs, stored, queries, advice.sql[-1].partition(";")[0]))
    assert [each for each in reached if each < recall] == [], reached


def recall_of(docs: Synced, stored: Vectors, queries: Vectors, setting: str) -> float:
    """The mean share of the ten nearest, found by numpy, that a plain statement with this setting returns."""
    found = []
    with docs.database.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute(setting)
        for query in queries:
            rows = connection.execute(
                f"SELECT id FROM docs_embedding ORDER BY embedding <=> '{query.tolist()}' LIMIT 10"
            ).fetchall()
            nearest = set((np.argsort(-(stored @ query))[:10] + 1).tolist())
            found.append(len(nearest & {key for (key,) in rows}) / 10)
    return float(np.mean(found))
