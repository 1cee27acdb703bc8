"""Gauges are read from the database when they are asked for."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgvector_sync.database.read_only import ReadOnlyDatabase
from pgvector_sync.observe.detail import read_runs
from pgvector_sync.observe.metrics.catalogue import METRICS, Kind
from pgvector_sync.observe.metrics.collector import CONTENT_TYPE, exposition
from pgvector_sync.store import runs, workers
from support.scraped import parse, scrape
from support.steps import Steps
from support.synced import Synced


def test_what_waits_is_shown_by_lane_with_the_age_of_the_oldest_change(docs: Steps) -> None:
    idle = scrape(docs.runtime.database)
    assert idle.value("lag_seconds", pipeline="docs", lane="live") == 0
    docs.insert(_1="a")
    undrained = scrape(docs.runtime.database)
    assert undrained.value("waiting_events", pipeline="docs") == 1
    assert undrained.value("waiting_rows", pipeline="docs", lane="live") == 0
    assert 0 < (undrained.value("lag_seconds", pipeline="docs", lane="live") or 0) < 60
    docs.drain()
    docs.synced.run("UPDATE pgvector_sync.work SET waiting_since = now() - interval '1 hour'")
    drained = scrape(docs.runtime.database)
    assert drained.value("waiting_rows", pipeline="docs", lane="live") == 1
    assert drained.value("waiting_rows", pipeline="docs", lane="bulk") == 0
    assert 3600 <= (drained.value("lag_seconds", pipeline="docs", lane="live") or 0) < 3660
    docs.claim()
    held = scrape(docs.runtime.database)
    assert held.value("in_flight_rows", pipeline="docs", lane="live") == 1
    assert held.value("waiting_rows", pipeline="docs", lane="live") == 0
    assert 3600 <= (held.value("lag_seconds", pipeline="docs", lane="live") or 0) < 3660


def test_every_metric_of_the_catalogue_is_exposed_with_its_labels_and_no_other(docs: Steps) -> None:
    """In a database in which everything has happened once."""
    docs.synced.declare(tokens_per_day=1_000_000)
    docs.synced.apply()
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="a", _2="poison")
    docs.process()
    with docs.runtime.database.transaction() as connection:
        connection.execute(
            "INSERT INTO pgvector_sync.drift SELECT 1, now(), 1, false, 0,0,0,0,0,0,0,0,0; "
            "UPDATE pgvector_sync.run SET state = 'running', rows_total = 10, rows_seen = 5, finished_at = NULL; "
            "INSERT INTO pgvector_sync.worker VALUES (gen_random_uuid(), 'w', 2, now(), now()); "
            "INSERT INTO pgvector_sync.tick VALUES ('tick', NULL, now(), now()); "
            "INSERT INTO pgvector_sync.recall SELECT 1, now(), relname, relfilenode, 'hnsw.ef_search', 40, true, true, 10, 200, "
            "'rows', 0.97, 0.94, 0.99, 0.8, 0.95, 10, 0 FROM pg_class WHERE relname = 'docs_embedding_pkey'"
        )
    with docs.synced.acting_as("postgres") as runtime:  # some are missing for roles without pg_read_all_stats
        families = list(text_string_to_metric_families(exposition(runtime.database).decode()))
    exposed = {family.name: family for family in families}
    for metric in METRICS:
        family = exposed.pop(metric.name.removesuffix("_total"))
        assert family.type == metric.kind
        assert family.documentation == metric.help
        assert family.samples, metric.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
    assert exposed == {}


def test_the_metric_the_page_and_the_watch_agree_on_how_far_a_run_is(docs: Steps) -> None:
    """A row that was enqueued and still waits isn't done."""
    docs.insert(_1="a", _2="b")
    docs.drain()
    docs.synced.run(
        "UPDATE pgvector_sync.run SET state = 'running', walked = false, rows_total = 10, rows_seen = 6, "
        "    finished_at = NULL, started_at = now() - interval '1 hour'; "
        "UPDATE pgvector_sync.work SET lane = 'bulk', run_id = (SELECT id FROM pgvector_sync.run)"
    )
    metric = scrape(docs.runtime.database)
    with docs.runtime.database.transaction(read_only=True) as connection:
        [watched] = runs.running(connection)
    _, [shown] = read_runs(docs.runtime.database, "docs", limit=1)
    hours = [
        metric.value("run_left_seconds", pipeline="docs", kind="backfill"),
        *(left and left.total_seconds() for left in (watched.left(), shown.left)),
    ]
    assert (watched.rows_done, watched.rows_total) == (4, 10)
    assert (
        metric.value("run_progress_ratio", pipeline="docs", kind="backfill") == watched.share == shown.share == 0.4
    )
    assert hours == [pytest.approx(5400, abs=60)] * 3


def test_no_metric_says_anything_about_a_row(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="secret")
    docs.insert(_7654321="a secret text", _7654322="another")
    docs.process()
    text = exposition(docs.runtime.database).decode()
    assert "secret" not in text
    assert "7654321" not in text


def test_names_and_help_texts_are_as_prometheus_wants_them() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")


def test_signs_of_life_of_the_relay_and_of_beat_are_shown_once_there_are_any(docs: Steps) -> None:
    assert scrape(docs.runtime.database).all("tick_age_seconds") == {}
    with docs.runtime.database.transaction() as connection:
        worker = uuid4()
        workers.note_alive(connection, worker, "w", 4, relayed=True)
    with docs.runtime.database.transaction() as connection:
        workers.note_alive(connection, worker, "w", 4, relayed=False)
    found = scrape(docs.runtime.database)
    assert found.value("workers") == 1
    assert found.value("worker_slots") == 4
    assert 0 <= (found.value("tick_age_seconds", component="relay") or -1) < 60
    assert found.value("tick_age_seconds", component="beat") is None


def test_without_a_schema_a_scrape_says_that_it_could_not_be_read(synced: Synced) -> None:
    synced.run("DROP SCHEMA pgvector_sync CASCADE")
    found = scrape(synced.runtime.database)
    assert found.value("up") == 0
    assert found.value("schema_version") is None
    assert (found.value("schema_version_expected") or 0) > 0


def test_without_a_server_a_scrape_says_that_it_could_not_be_read() -> None:
    second = timedelta(seconds=1)
    with ReadOnlyDatabase(
        "postgresql://127.0.0.1:1/postgres",
        lock_timeout=second,
        max_connections=1,
        statement_limit=second,
        connect_limit=second,
    ) as database:
        found = parse(exposition(database).decode())
    assert found.value("up") == 0


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
