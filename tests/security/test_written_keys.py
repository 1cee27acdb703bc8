"""Malformed data that a worker's role writes into our tables is refused or parked, and stops no program."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.runs.requests import request_reconcile
from support.keys import MALFORMED, UNUSABLE
from support.steps import Steps

Typed = Callable[..., tuple[int, str, str]]

WORKS = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
)
"""All that a worker can be granted."""
WRITES = (
    "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) VALUES (1, {key}, 'live', now(), now())",
    "UPDATE pgvector_sync.work SET key = {key}",
    "INSERT INTO pgvector_sync.run_key VALUES (1, {key})",
    "UPDATE pgvector_sync.run SET watermark = {key}",
)


@pytest.mark.parametrize("write", WRITES, ids=["work", "work changed", "run_key", "watermark"])
def test_a_worker_role_cant_write_a_key_that_another_program_cant_read(
    docs: Steps, role: Callable[..., str], write: str
) -> None:
    docs.insert(_1="one")
    docs.drain()
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for key in MALFORMED:
            if key == "[1, 2]":
                continue
            with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
                worker.execute(write.format(key=f"'{key}'::jsonb"))


def test_work_that_a_worker_role_has_written_is_parked_in_bulk_and_all_others_are_embedded(
    docs: Steps, role: Callable[..., str]
) -> None:
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for key in (*UNUSABLE, "[1, 2]"):
            worker.execute(WRITES[0].format(key=f"'{key}'::jsonb"))
        worker.execute(
            "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)"
            " SELECT 1, jsonb_build_array('bad ' || n), 'live', now(), now() FROM generate_series(1, 1000) AS n"
        )
    docs.insert(_1="one", _2="two")
    docs.synced.settle()
    assert docs.synced.vectors().keys() == {(1,), (2,)}
    assert {error for _, error in docs.synced.dead()} == {"key_malformed"}
    assert len(docs.synced.dead()) == 1_006
    assert docs.state()[0] == "active"


@pytest.mark.parametrize("key", UNUSABLE)
def test_a_watermark_of_another_type_restarts_the_backfill(
    docs: Steps, role: Callable[..., str], key: str
) -> None:
    docs.insert(**{f"_{n}": f"text {n}" for n in range(1, 20)})
    docs.synced.sync()
    docs.synced.run(
        "TRUNCATE docs_embedding", "INSERT INTO pgvector_sync.run (pipeline_id, kind) VALUES (1, 'backfill')"
    )
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        worker.execute(f"UPDATE pgvector_sync.run SET watermark = '{key}' WHERE state = 'running'")
    docs.synced.settle()
    assert len(docs.synced.vectors()) == 19


@pytest.mark.slow
def test_malformed_runs_written_by_a_worker_role_stop_no_program(
    docs: Steps, role: Callable[..., str], typed: Typed
) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    request_reconcile(docs.runtime.database, "docs")
    deep = "'" + "[" * 3_000 + "]" * 3_000 + "'"
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        for column in ("samples", "counts", "options"):
            for value in (
                "'[[1]]'",
                "'5'",
                '\'{"missing": [[[1]], 5, null], "rows": "x"}\'',
                deep,
                f"'[{'9' * 5000}]'",
            ):
                worker.execute(
                    f"INSERT INTO pgvector_sync.run (pipeline_id, kind, state, {column}, finished_at)"
                    f" VALUES (1, 'reconcile', 'finished', {value}, now())"
                )
                worker.execute(
                    f"INSERT INTO pgvector_sync.run (pipeline_id, kind, {column}) VALUES (1, 'reembed', {value})"
                )
        worker.execute("UPDATE pgvector_sync.run SET started_at = 'infinity' WHERE id = 3")
        worker.execute("UPDATE pgvector_sync.run SET finished_at = '-infinity' WHERE id = 4")
        worker.execute("UPDATE pgvector_sync.run SET options = '{\"keys\": true}' WHERE id = 5")
        worker.execute("INSERT INTO pgvector_sync.run_key SELECT 5, '[\"x\"]'")
    docs.change(1, "changed")
    docs.synced.settle()
    assert docs.has_vector_of(1, "changed")
    for command in (("runs", "list"), ("runs", "list", "--json"), ("status",), ("reconcile", "--trend")):
        assert typed(*command)[0] in (0, 1), command
    for run in range(1, 20):
        code, out, err = typed("runs", "show", str(run))
        assert code == 0, (out, err)


@pytest.mark.parametrize("column", ["parked_at", "visible_at", "waiting_since"])
def test_an_infinite_date_in_work_stops_no_program(
    docs: Steps, role: Callable[..., str], typed: Typed, column: str
) -> None:
    docs.synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    docs.insert(_1="poison", _2="fine")
    docs.synced.settle()
    docs.synced.endpoint.heal()
    with docs.synced.database.connect_as(role("worker", *WORKS)) as worker:
        change = f"UPDATE pgvector_sync.work SET {column} = %s WHERE key = '[1]'"
        for value in ("infinity", "-infinity"):
            with pytest.raises(psycopg.errors.CheckViolation):
                worker.execute(change, [value])
        assert worker.execute(change, ["20000-01-01"]).rowcount == 1
    for command in (("dead-letters", "list"), ("dead-letters", "list", "--json"), ("status",)):
        assert typed(*command)[0] in (0, 1), command
