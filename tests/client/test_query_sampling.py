"""The opt-in sample of real queries: vectors only, stored beside the searches and never at their expense."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

import numpy as np
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from pgvector_sync import QueryVector, Settings, Sync
from pgvector_sync.engine.jobs.forget_query_samples import JOB
from pgvector_sync.observe import query_sampling
from pgvector_sync.observe.query_sampling import BUFFERED, QuerySampler
from pgvector_sync.store import query_samples
from pgvector_sync.store.pipelines import require_pipeline
from pgvector_sync.telemetry.events.search import QuerySamplesDropped, QuerySamplingOff
from support.beginnings import begins_with
from support.client import sync_as
from support.endpoint import vector_of
from support.events import collected
from support.jobs import run_due
from support.roles import APPLICATION, MONITOR, WORKER
from support.synced import DIMENSIONS, DOCS, MODEL, Synced

SAMPLES = "SELECT spec_version, model, vector FROM pgvector_sync.query_sample ORDER BY id"
COUNT = "SELECT count(*) FROM pgvector_sync.query_sample"


def six_rows(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 6) n")
    synced.pipeline()
    synced.run(f"GRANT SELECT ON docs, docs_embedding TO {APPLICATION}")


beginning, docs = begins_with(six_rows)


@pytest.fixture
def sampling(docs: Synced) -> Settings:
    return Settings(_env_file=None, database_url=docs.database.url_as(WORKER), sample_queries=1)  # type: ignore[arg-type]


def recent(docs: Synced) -> list[list[float]]:
    with docs.runtime.database.transaction() as connection:
        return query_samples.recent(connection, require_pipeline(connection, "docs"), limit=100)


def store(docs: Synced, *vectors: list[float], model: str = MODEL) -> None:
    with docs.runtime.database.transaction() as connection:
        query_samples.keep(connection, [QueryVector("docs", model, 1, vector) for vector in vectors])


# -- what is sampled -----------------------------------------------------------------------------------------


def test_the_vectors_of_queries_are_stored_once_each_and_without_their_texts(
    docs: Synced, sampling: Settings
) -> None:
    with Sync(settings=sampling) as sync:
        first = sync.search("docs", "a secret question", 2)
        sync.search("docs", "a secret question", 2, after=first.next)
        sync.search("docs", sync.embed_query("docs", "another one"))
        sync.explain_search("docs", "only explained")
        assert docs.database.value(COUNT) == 0, "nothing is stored while the process searches"
    stored = docs.database.execute(SAMPLES)
    assert [(version, model) for version, model, _ in stored] == [(1, MODEL)] * 2
    expected = [vector_of(text, DIMENSIONS) for text in ("a secret question", "another one")]
    assert np.allclose([vector for _, _, vector in stored], expected)
    everything = docs.database.value("SELECT string_agg(s::text, ' ') FROM pgvector_sync.query_sample s")
    assert "secret" not in everything


def test_nothing_is_sampled_unless_that_is_wanted(docs: Synced) -> None:
    with sync_as(docs.database, WORKER) as sync:
        sync.search("docs", "text 1")
    assert docs.database.value(COUNT) == 0


def test_about_the_wanted_share_is_sampled(sampling: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_sampling, "BUFFERED", 10_000)
    sampler = QuerySampler(sampling.model_copy(update={"sample_queries": 0.25}))
    for _ in range(4_000):
        sampler.offer(QueryVector("docs", MODEL, 1, [1.0]))
    assert 800 < len(sampler._buffer) < 1_200
    sampler._buffer.clear()
    sampler.close()


def test_however_many_queries_there_are_a_flush_is_small_and_represents_all_of_them(
    docs: Synced, sampling: Settings
) -> None:
    sampler = QuerySampler(sampling)
    for number in range(2_000):
        sampler.offer(QueryVector("docs", MODEL, 1, [float(number)] * DIMENSIONS))
    sampler.close()
    numbers = [vector[0] for _, _, vector in docs.database.execute(SAMPLES)]
    assert len(numbers) == BUFFERED
    assert max(numbers) > 500, "not only the first ones"


# -- what it may cost ----------------------------------------------------------------------------------------


def test_an_application_without_the_grant_searches_as_before_and_is_told_once(
    docs: Synced, sampling: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_sampling, "FLUSH_AFTER", timedelta(0))
    url = docs.database.url_as(APPLICATION)
    with collected() as events, Sync(url, settings=sampling) as sync:
        assert len(sync.search("docs", "text 1")) == 5
        off = events.wait_for(QuerySamplingOff)
        assert len(sync.search("docs", "text 2")) == 5
    assert events.of(QuerySamplingOff) == [off]
    assert off.sqlstate == "42501"
    docs.run(off.hint.partition(";")[0].replace("…", APPLICATION))
    with Sync(url, settings=sampling) as sync:
        sync.search("docs", "text 1")
    assert docs.database.value(COUNT) == 1


def test_a_sample_is_no_part_of_the_applications_transaction(docs: Synced, sampling: Settings) -> None:
    docs.run(query_sampling.GRANT.partition(";")[0].replace("…", APPLICATION))
    with (
        psycopg.connect(docs.database.url_as(APPLICATION)) as connection,
        Sync(docs.database.url_as(APPLICATION), settings=sampling) as sync,
        connection.transaction(force_rollback=True),
    ):
        connection.execute("SET TRANSACTION READ ONLY")
        assert len(sync.search("docs", "text 1", connection=connection)) == 5
        sync.close()
        assert docs.database.value(COUNT) == 1
        connection.execute("SELECT 1")


def test_an_applications_pool_is_never_written_through(docs: Synced) -> None:
    settings = Settings(_env_file=None, sample_queries=1)
    with (
        ConnectionPool(docs.database.url_as(WORKER), min_size=1, max_size=1, open=True) as pool,
        collected() as events,
        Sync(pool=pool, settings=settings.model_copy(update={"database_url": None})) as sync,
    ):
        assert len(sync.search("docs", "text 1")) == 5
    assert "DATABASE_URL isn't set" in events.of(QuerySamplingOff)[0].reason
    assert docs.database.value(COUNT) == 0


def test_a_blocked_table_delays_no_search_and_the_sample_is_dropped(docs: Synced, sampling: Settings) -> None:
    with docs.database.connect() as other, collected() as events, other.transaction():
        other.execute("LOCK pgvector_sync.query_sample")
        began = monotonic()
        with Sync(settings=sampling) as sync:
            assert len(sync.search("docs", "text 1")) == 5
        assert monotonic() - began < 5
        dropped = events.wait_for(QuerySamplesDropped)
    assert (dropped.queries, dropped.sqlstate) == (1, "55P03")
    assert docs.database.value(COUNT) == 0


# -- what is kept, and who may read it -----------------------------------------------------------------------


def test_only_vectors_that_can_be_compared_are_used_the_newest_first(docs: Synced) -> None:
    one, two = [1.0] * DIMENSIONS, [2.0] * DIMENSIONS
    store(docs, one, two, [0.0] * DIMENSIONS, [float("nan")] * DIMENSIONS, [1e300] * DIMENSIONS, [1.0])
    store(docs, [3.0] * DIMENSIONS, model="another")
    assert recent(docs) == [two, one]


def test_a_number_that_a_real_cant_represent_is_rounded(docs: Synced) -> None:
    store(docs, [1e-60, *[0.1] * (DIMENSIONS - 1)])
    assert recent(docs)[0][0] == 0


def test_a_bounded_number_of_recent_vectors_is_kept(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    store(docs, [9.0] * DIMENSIONS, model="another")
    store(docs, *([float(number)] * DIMENSIONS for number in range(1, 6)))
    docs.run("UPDATE pgvector_sync.query_sample SET at = now() - interval '31 days' WHERE vector[1] = 5")
    run_due(docs.runtime, JOB)
    assert [vector[0] for vector in recent(docs)] == [4, 3, 2, 1]
    assert docs.database.value(COUNT) == 4, "those of the other model are gone"
    with docs.runtime.database.transaction() as connection:
        query_samples.forget(connection, older_than=timedelta(days=30), kept=2)
    assert [vector[0] for vector in recent(docs)] == [4, 3]


def test_the_vectors_go_with_their_pipeline(docs: Synced) -> None:
    store(docs, [1.0] * DIMENSIONS)
    docs.remove()
    assert docs.database.value(COUNT) == 0


@pytest.mark.parametrize("role", [MONITOR, APPLICATION])
def test_neither_a_monitor_nor_an_application_reads_them(docs: Synced, role: str) -> None:
    store(docs, [1.0] * DIMENSIONS)
    with docs.database.connect_as(role) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT vector FROM pgvector_sync.query_sample")


def test_the_environment_sets_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGVECTOR_SYNC_SAMPLE_QUERIES", "0.05")
    assert Settings(_env_file=None).sample_queries == 0.05
    monkeypatch.setenv("PGVECTOR_SYNC_SAMPLE_QUERIES", "5")
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Settings(_env_file=None)
