"""An index that rots: half of the rows are deleted, others are inserted, and the history notices."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pgvector_sync import QueryVector
from pgvector_sync.engine.jobs import measure_recall
from pgvector_sync.engine.jobs.measure_recall import JOB
from pgvector_sync.observe import recall_trend
from pgvector_sync.store import query_samples
from pgvector_sync.store.pipelines import require_pipeline
from pgvector_sync.store.recall_history import RecallState
from pgvector_sync.telemetry.events.search import RecallMeasured
from support.events import collected
from support.jobs import run_due
from support.synced import DOCS, Synced

ROWS, QUERIES, DIMENSIONS = 1_500, 200, 64
DOCUMENTATION = Path(__file__).parents[3] / "docs"
SENTENCES = re.compile(r"\n\n|\n[-|] |(?<=[.:]) ")
INDEX = "CREATE INDEX near ON docs_embedding USING ivfflat (embedding public.vector_cosine_ops) WITH (lists = 60)"


def sentences() -> tuple[list[str], list[str], list[list[float]]]:
    """Sentences of our docs about some subjects, others about the most different ones, and queries about the former."""
    from pgvector_sync.embedding.local_models.wordllama_model import WordLlamaModel

    pages = [page.read_text("utf-8") for page in sorted(DOCUMENTATION.rglob("*.md"))]
    texts = sorted({text for page in pages for text in SENTENCES.split(page) if 40 < len(text) < 600})
    vectors = WordLlamaModel().encode(texts).vectors[:, :DIMENSIONS].astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    by_subject = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    some, others = np.random.default_rng(7).permutation(by_subject[: ROWS + QUERIES]), by_subject[-ROWS // 2 :]
    queries = vectors[some[:QUERIES]]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return [texts[i] for i in some[QUERIES:]], [texts[i] for i in others], queries.tolist()


def insert(synced: Synced, texts: list[str]) -> None:
    with synced.database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM docs")
        [last] = cursor.fetchone() or [0]
        with cursor.copy("COPY docs (id, body) FROM STDIN") as copy:
            for number, text in enumerate(texts, start=last + 1):
                copy.write_row((number, text))


def measured(synced: Synced) -> tuple[RecallState, str]:
    """Measure as on the next day; return the last measurement and what is said about it."""
    synced.run(
        "ANALYZE docs_embedding",
        "UPDATE pgvector_sync.recall_attempt SET started_at = started_at - interval '25 hours'",
    )
    with collected() as events:
        run_due(synced.runtime, JOB)
        events.wait_for(RecallMeasured, 60)
    with synced.runtime.database.transaction() as connection:
        state, [finding] = recall_trend.read(connection, require_pipeline(connection, "docs"))
    assert state is not None
    return state, f"{finding.level.value}: {finding.seen} → {finding.advice}"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")
def test_an_index_whose_rows_were_half_replaced_is_noticed_and_a_rebuild_repairs_it(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_recall, "MOST_QUERIES", QUERIES)
    some, others, queries = sentences()
    synced.run(DOCS)
    insert(synced, some)
    synced.declare(provider="local", model="wordllama", dimensions=DIMENSIONS, index={"database_share": 1})
    synced.apply()
    synced.settle(seconds=60)
    model = synced.shape().pipeline.spec.model
    with synced.runtime.database.transaction() as connection:
        query_samples.keep(connection, [QueryVector("docs", model, 1, vector) for vector in queries])
    synced.run(INDEX)
    built, _ = measured(synced)
    assert (built.source, built.queries, built.rows, built.churn) == ("logged", QUERIES, ROWS, 0)
    target = built.recall - 0.005
    synced.run(
        f'UPDATE pgvector_sync.pipeline SET vector_index = \'{{"recall": {target}, "database_share": 1}}\'',
        "DELETE FROM docs WHERE id % 2 = 0",
    )
    insert(synced, others)
    synced.settle(seconds=60)
    synced.run("VACUUM docs_embedding")
    rotten, finding = measured(synced)
    assert rotten.built_recall == built.recall
    assert rotten.recall < built.recall - recall_trend.FALLEN
    assert rotten.churn == pytest.approx(0.5)
    assert finding == (
        f"warning: recall of docs fell from {built.recall:.2f} to {rotten.recall:.2f} after {rotten.churn:.0%} churn, "
        f"below the target of {target:g} → rebuild the index: pgvector-sync index build docs --rebuild"
    )
    synced.run("REINDEX INDEX near")
    rebuilt, finding = measured(synced)
    assert rebuilt.recall > rotten.recall
    assert (rebuilt.built_recall, rebuilt.churn) == (rebuilt.recall, 0)
    assert "fell" not in finding
