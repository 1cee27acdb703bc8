"""Recall is measured over time: when it is due, what is kept, and what searches make of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import psycopg
import pytest

from pgvector_sync import QueryVector, Refused, Sync
from pgvector_sync.database import Connection
from pgvector_sync.engine.jobs import forget_history, measure_recall
from pgvector_sync.engine.jobs.measure_recall import JOB
from pgvector_sync.index.recall import choice
from pgvector_sync.observe import recall_trend
from pgvector_sync.observe.doctor import index
from pgvector_sync.store import pipelines, query_samples, recall_history
from pgvector_sync.store.recall_history import Attempt, Measurement, RecallState
from pgvector_sync.telemetry.events.search import RecallMeasured, RecallNotMeasured
from support.beginnings import begins_with
from support.client import sync_as
from support.events import collected
from support.jobs import run_due
from support.roles import APPLICATION, WORKER
from support.synced import DIMENSIONS, DOCS, MODEL, Synced
from support.waiting import eventually

ROWS = 1_500
INDEX = "CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)"
RECALL = "SELECT value, is_default, is_used, source, queries, rows FROM pgvector_sync.recall ORDER BY at, value"
COUNT = "SELECT count(DISTINCT at) FROM pgvector_sync.recall"
AGE = "UPDATE pgvector_sync.recall_attempt SET started_at = started_at - interval '25 hours'"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_recall, "QUERIES", 10)
    monkeypatch.setattr(measure_recall, "MOST_QUERIES", 10)
    monkeypatch.setattr(measure_recall, "LEAST_LOGGED", 5)
    monkeypatch.setattr(choice, "SWEEP_EF_SEARCH", (20, 40, 80))


def random_vectors(synced: Synced) -> None:
    """1,500 rows with random vectors and an index. Their recall is that of an index over few rows: 1."""
    synced.run(DOCS)
    synced.declare(index={"database_share": 1, "recall": 0.6})
    synced.apply()
    vectors = np.random.default_rng(5).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
    with synced.database.connect() as connection:
        connection.execute("ALTER TABLE docs DISABLE TRIGGER USER")
        connection.execute(f"INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, {ROWS}) n")
        connection.execute("ALTER TABLE docs ENABLE TRIGGER USER")
        with connection.cursor().copy(
            "COPY docs_embedding (id, chunk_no, embedding, fingerprint, model, embedded_at) FROM STDIN"
        ) as copy:
            for number, vector in enumerate(vectors, start=1):
                copy.write_row((number, 0, str(vector.tolist()), b"\0" * 32, MODEL, "now"))
        connection.execute("DELETE FROM pgvector_sync.run")
        connection.execute(INDEX)
        connection.execute("ANALYZE docs_embedding")


beginning, docs = begins_with(random_vectors)


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, WORKER) as sync:
        yield sync


def due(docs: Synced) -> None:
    """Run the job. It does nothing while the thread of the last run lives, which ends shortly after its event."""
    eventually(lambda: all(thread.name != JOB.name for thread in threading.enumerate()), what="the last run ends")
    run_due(docs.runtime, JOB)


def measured(docs: Synced) -> RecallMeasured:
    with collected() as events:
        due(docs)
        return events.wait_for(RecallMeasured, 30)


def again(docs: Synced) -> RecallMeasured:
    """Measure as on the next day."""
    docs.run(AGE)
    return measured(docs)


def look(docs: Synced) -> tuple[RecallState | None, list[str]]:
    with docs.runtime.database.transaction() as connection:
        state, findings = recall_trend.read(connection, pipelines.require_pipeline(connection, "docs"))
    return state, [f"{finding.level.value}: {finding.seen} → {finding.advice}" for finding in findings]


def nothing_is_measured(docs: Synced) -> None:
    """The job itself claims what is due, so nothing may have been claimed when it returns."""
    before = docs.database.execute("SELECT lease FROM pgvector_sync.recall_attempt")
    with collected() as events:
        due(docs)
    assert docs.database.execute("SELECT lease FROM pgvector_sync.recall_attempt") == before
    assert events.of(RecallMeasured) == events.of(RecallNotMeasured) == []


# -- when it is measured -------------------------------------------------------------------------------------


def test_an_index_is_measured_once_per_interval_and_after_each_build(docs: Synced) -> None:
    event = measured(docs)
    assert (event.pipeline, event.recall, event.queries) == ("docs", 1.0, 10)
    rows = docs.database.execute(RECALL)
    assert [row for row in rows if row[1]] == [(40, True, True, "rows", 10, ROWS)]
    assert [value for value, *_ in rows] == [20, 40, 80]
    nothing_is_measured(docs)
    docs.run("REINDEX INDEX near")
    measured(docs)
    docs.run(AGE)
    measured(docs)
    assert docs.database.value(COUNT) == 3


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX near",
        'UPDATE pgvector_sync.pipeline SET vector_index = \'{"measure_every": "off"}\'',
        "DELETE FROM docs_embedding WHERE id > 10; ANALYZE docs_embedding",
        "UPDATE pgvector_sync.pipeline SET state = 'removing'",
        "INSERT INTO pgvector_sync.run (pipeline_id, kind) SELECT id, 'backfill' FROM pgvector_sync.pipeline",
    ],
    ids=["no index", "measure_every off", "few rows", "removing", "backfilling"],
)
def test_nothing_is_measured_where_that_would_be_useless(docs: Synced, change: str) -> None:
    docs.run(*change.split("; "))
    nothing_is_measured(docs)


def test_a_measurement_whose_process_has_died_is_repeated_by_another_one(docs: Synced) -> None:
    measured(docs)
    docs.run("UPDATE pgvector_sync.recall_attempt SET ended_at = NULL, started_at = now() - interval '59 minutes'")
    nothing_is_measured(docs)
    docs.run("UPDATE pgvector_sync.recall_attempt SET started_at = now() - interval '61 minutes'")
    measured(docs)


def test_processes_that_ask_at_the_same_time_measure_once(docs: Synced) -> None:
    database = docs.runtime.database
    with database.transaction(read_only=True) as connection:
        known = pipelines.all_pipelines(connection)
    with database.connection() as first, database.connection() as second, second.transaction():
        assert recall_history.claim(second, known) is not None
        first.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            recall_history.claim(first, known)
    with database.transaction() as connection:
        assert recall_history.claim(connection, known) is None


def test_a_measurement_that_was_taken_over_stores_nothing(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    note = recall_history.note

    def overtaken(connection: Connection, attempt: Attempt, measurement: Measurement) -> bool:
        connection.execute("UPDATE pgvector_sync.recall_attempt SET lease = gen_random_uuid()")
        return note(connection, attempt, measurement)

    monkeypatch.setattr(recall_history, "note", overtaken)
    with collected() as events:
        run_due(docs.runtime, JOB)
        events.wait_for(RecallNotMeasured, 30)
    assert docs.database.value(COUNT) == 0


def test_why_it_couldnt_be_measured_is_shown(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_recall, "STATEMENT_LIMIT", timedelta(milliseconds=1))
    with collected() as events:
        run_due(docs.runtime, JOB)
        reason = events.wait_for(RecallNotMeasured, 30).reason
    _, [finding] = look(docs)
    assert (
        finding == f"warning: the recall of docs couldn't be measured: {reason} → pgvector-sync index recall docs"
    )
    nothing_is_measured(docs)


def test_a_measurement_holds_up_no_other_job_and_no_batch(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    held, release = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        held.set()
        assert release.wait(30)
        raise Refused("ended by the test", hint="none")

    monkeypatch.setattr(measure_recall, "measure", slow)
    docs.run("UPDATE pgvector_sync.tick SET visible_at = now()", "INSERT INTO docs VALUES (0, 'a change')")
    with collected() as events:
        docs.settle()
        assert held.wait(10)
        assert (0,) in docs.vectors(), "embedded while it measured"
        release.set()
        events.wait_for(RecallNotMeasured, 30)


def test_a_measurement_ends_after_a_time_with_the_queries_it_has_asked(
    docs: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_recall, "TIME_LIMIT", timedelta(0))
    assert measured(docs).queries == 1


# -- with which queries --------------------------------------------------------------------------------------


def test_real_queries_are_used_if_there_are_enough(docs: Synced) -> None:
    vectors = np.random.default_rng(6).normal(size=(5, DIMENSIONS)).tolist()
    with docs.runtime.database.transaction() as connection:
        query_samples.keep(connection, [QueryVector("docs", MODEL, 1, vector) for vector in vectors[:4]])
    measured(docs)
    with docs.runtime.database.transaction() as connection:
        query_samples.keep(connection, [QueryVector("docs", MODEL, 1, vector) for vector in vectors[4:]])
    again(docs)
    sources = "SELECT DISTINCT at, source FROM pgvector_sync.recall ORDER BY at"
    assert [source for _, source in docs.database.execute(sources)] == ["rows", "logged"]


# -- what is made of it --------------------------------------------------------------------------------------


def lower(docs: Synced, recall: float, used: float) -> None:
    """Change the last measurement."""
    last = "WHERE at = (SELECT max(at) FROM pgvector_sync.recall)"
    docs.run(
        f"UPDATE pgvector_sync.recall SET recall = {recall} {last} AND is_default",
        f"UPDATE pgvector_sync.recall SET is_used = (value = 80) {last}",
        f"UPDATE pgvector_sync.recall SET recall = {used} {last} AND value = 80",
    )


def churn(docs: Synced, rows: int) -> None:
    docs.run(
        "INSERT INTO pgvector_sync.batch_totals (pipeline_id, lane, stored) "
        f"SELECT id, 'live', {rows} FROM pgvector_sync.pipeline"
    )


def test_the_trend_is_told_in_words_with_what_to_do(docs: Synced) -> None:
    assert look(docs) == (None, [])
    measured(docs)
    state, [finding] = look(docs)
    assert state is not None
    assert (state.recall, state.built_recall, state.churn, state.current) == (1, 1, 0, True)
    assert finding.startswith(
        "ok: recall@10 of docs is 1.00 (0.72 to 1.00) with hnsw.ef_search = 40, by 10 rows as queries on 20"
    )
    churn(docs, 270)
    again(docs)
    lower(docs, 0.4, 0.65)
    state, [finding] = look(docs)
    assert state is not None
    assert state.churn == pytest.approx(0.18)
    assert finding == (
        "warning: recall of docs fell from 1.00 to 0.40 after 18% churn, below the target of 0.6 → "
        "rebuild the index: pgvector-sync index build docs --rebuild"
    )
    docs.run("UPDATE pgvector_sync.recall SET recall = 0.4")
    _, [finding] = look(docs)
    assert "with hnsw.ef_search = 40, and 0.40 with 80, which `search` uses" in finding
    assert "below the target of 0.6 → pgvector-sync index recall docs --sweep" in finding
    docs.run("REINDEX INDEX near")
    _, [finding] = look(docs)
    assert finding.startswith("ok: near was built again or dropped since its recall was measured")


def test_searches_use_the_smallest_setting_that_has_reached_the_target(docs: Synced) -> None:
    docs.run(
        "DROP INDEX near",
        "CREATE INDEX near ON docs_embedding USING ivfflat (embedding vector_cosine_ops) WITH (lists = 40)",
    )
    measured(docs)
    query = "SELECT value, recall, low, is_default, is_used FROM pgvector_sync.recall ORDER BY value"
    rows = docs.database.execute(query)
    enough = next(value for value, _, low, _, _ in rows if low >= 0.6)
    assert rows[0][1] < 0.6
    assert enough > 1, "with one probe, too few are found"
    assert [value for value, *_, is_used in rows if is_used] == [enough]
    assert [value for value, *_, is_default, _ in rows if is_default] == [1]
    assert docs.database.execute("SELECT ef_search, probes FROM pgvector_sync.pipeline") == [(None, enough)]
    _, [finding] = look(docs)
    assert f"with {enough}, which `search` uses" in finding


def test_a_measurement_that_misses_the_target_changes_no_search(docs: Synced) -> None:
    docs.run(
        "UPDATE pgvector_sync.pipeline SET ef_search = 70",
        'UPDATE pgvector_sync.pipeline SET vector_index = \'{"recall": 0.999, "database_share": 1}\'',
    )
    measured(docs)
    assert docs.database.execute("SELECT ef_search, probes FROM pgvector_sync.pipeline") == [(70, None)]


def test_the_finding_is_part_of_index_status_and_doctor(docs: Synced, sync: Sync) -> None:
    measured(docs)
    [target] = sync.index_status("docs")
    assert target.recall is not None
    assert target.recall.recall == 1
    assert [finding.seen for finding in target.findings if "recall@10" in finding.seen]
    seen = [finding.seen for finding in index.on_target(docs.runtime, docs.shape().pipeline)]
    assert any("recall@10" in each for each in seen)


def test_an_index_that_only_measurements_scan_is_unused(docs: Synced, sync: Sync) -> None:
    def unused() -> list[str]:
        [target] = sync.index_status("docs")
        return [finding.seen for finding in target.findings if "hasn't been scanned" in finding.seen]

    measured(docs)
    eventually(lambda: sync.index_status("docs")[0].indexes[0].scans, 10, what="the server has counted the scans")
    assert len(unused()) == 1
    with docs.database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute(
            "SELECT id FROM docs_embedding ORDER BY embedding <=> (SELECT embedding FROM docs_embedding LIMIT 1) LIMIT 1"
        )
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert unused() == []


def test_a_role_that_may_not_read_measurements_sees_the_rest(docs: Synced) -> None:
    measured(docs)
    docs.run(f"GRANT SELECT ON docs, docs_embedding TO {APPLICATION}")
    with sync_as(docs.database, APPLICATION) as sync:
        [target] = sync.index_status("docs")
    assert (target.recall, target.indexes[0].name) == (None, "near")


def test_old_measurements_are_forgotten_except_the_first_and_the_last_of_a_build(docs: Synced) -> None:
    measured(docs)
    docs.run(
        *(
            "INSERT INTO pgvector_sync.recall SELECT pipeline_id, at - interval '500 days' + make_interval(days => "
            f"{day}), index_name, filenode, setting, value, is_default, is_used, k, queries, source, recall, low, high, "
            "p5, target, rows, changes FROM pgvector_sync.recall WHERE at > now() - interval '1 day'"
            for day in range(3)
        )
    )
    assert docs.database.value(COUNT) == 4
    run_due(docs.runtime, forget_history.JOB)
    assert docs.database.value(COUNT) == 2


def test_the_measurements_go_with_their_pipeline(docs: Synced) -> None:
    measured(docs)
    docs.remove()
    for table in ("recall", "recall_attempt"):
        assert docs.database.value(f"SELECT count(*) FROM pgvector_sync.{table}") == 0
