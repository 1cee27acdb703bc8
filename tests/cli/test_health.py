"""Whether workers are alive, as reported by `status`, `doctor`, `--wait` and `health`."""

from __future__ import annotations

import json
import subprocess
import sys
from uuid import uuid4

import pytest

from pgvector_sync.cli import health
from pgvector_sync.store import workers
from support.processes import COMMAND, Process, Processes
from support.servers import Database
from support.synced import DOCS, Synced
from support.waiting import eventually


@pytest.fixture
def docs(synced: Synced, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """The usual source and its pipeline, all rows fresh; commands use its database."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    return synced


def register_worker(database: Database, *, slots: int = 2, seconds_ago: float = 0) -> None:
    database.execute(
        "INSERT INTO pgvector_sync.worker VALUES (%s, 'celery@test', %s, now() - make_interval(secs => %s))",
        uuid4(), slots, seconds_ago,
    )  # fmt: skip


def add_a_row(docs: Synced) -> None:
    docs.run("INSERT INTO docs (id, body) SELECT max(id) + 1, 'another' FROM docs")


def result_of(process: Process) -> tuple[int, str]:
    return process.wait(), process.printed


def test_the_check_passes_while_nothing_waits(docs: Synced) -> None:
    found = health.check(max_lag=1)
    assert (found.problems, found.exit_code, found.lag, found.workers) == ((), 0, None, 0)


def test_waiting_rows_without_a_worker_are_unhealthy(docs: Synced) -> None:
    add_a_row(docs)
    assert health.check().problems == ("no worker is running, and rows wait",)
    register_worker(docs.database, seconds_ago=workers.SILENCE.total_seconds() + 1)
    assert health.check().exit_code == 1, "a dead worker doesn't count"
    register_worker(docs.database, slots=0)
    assert health.check().exit_code == 1, "a worker that consumes neither lane doesn't count"
    register_worker(docs.database)
    assert health.check().problems == ()


def test_a_lag_above_the_limit_is_unhealthy(docs: Synced) -> None:
    add_a_row(docs)
    register_worker(docs.database)
    docs.run("UPDATE pgvector_sync.outbox SET at = at - interval '90 s'")
    assert health.check(max_lag=600).exit_code == 0
    found = health.check(max_lag=60)
    assert found.exit_code == 1
    assert "above 60 s" in found.problems[0]


def test_a_misconfigured_pipeline_is_unhealthy_and_a_paused_one_is_not(docs: Synced) -> None:
    add_a_row(docs)
    register_worker(docs.database)
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = 'the key is wrong'")
    assert health.check().problems == ("docs is misconfigured: the key is wrong",)
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'paused'", "DELETE FROM pgvector_sync.worker")
    docs.run("UPDATE pgvector_sync.outbox SET at = at - interval '90 s'")
    assert health.check(max_lag=60).exit_code == 0


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("", 2, "unhealthy: DATABASE_URL is not set"),
        ("postgres//nonsense", 2, "unhealthy: DATABASE_URL: isn't a valid connection string"),
        ("postgresql://127.0.0.1:1/app", 1, "unhealthy: the database is out of reach"),
    ],
)
def test_the_line_printed_without_a_database(processes: Processes, url: str, code: int, says: str) -> None:
    found, printed = result_of(processes.command("health", DATABASE_URL=url))
    assert (found, len(printed.splitlines())) == (code, 1)
    assert printed.startswith(says)


def test_a_database_without_our_schema_is_unhealthy(bare_database_url: str, processes: Processes) -> None:
    code, printed = result_of(processes.command("health", DATABASE_URL=bare_database_url))
    assert (code, printed) == (1, "unhealthy: the schema is missing or outdated: run `pgvector-sync migrate`\n")


def test_the_command_prints_one_line_or_json(docs: Synced, processes: Processes) -> None:
    assert result_of(processes.command("health", "--max-lag", "5")) == (0, "healthy: nothing waits, 0 workers\n")
    add_a_row(docs)
    code, printed = result_of(processes.command("health", "--json"))
    assert code == 1
    found = json.loads(printed)
    assert found | {"lag_seconds": 0} == {
        "version": 1,
        "healthy": False,
        "problems": ["no worker is running, and rows wait"],
        "lag_seconds": 0,
        "workers": 0,
        "slots": 0,
    }
    assert processes.command("health", "--max-lag", "soon").wait() == 2
    assert "--max-lag" in result_of(processes.command("health", "--help"))[1]


def test_it_imports_almost_nothing(docs: Synced) -> None:
    """Imports are what makes it slow; measuring seconds would depend on the machine."""
    code = """
import sys
from pgvector_sync.cli import main
try:
    main(["health"])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"celery", "kombu", "redis", "rich", "typer", "openai", "numpy", "pydantic", "structlog", "psycopg_pool"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_status_names_the_workers(docs: Synced, processes: Processes) -> None:
    add_a_row(docs)
    code, printed = result_of(processes.command("status"))
    assert code == 0
    assert "no worker is running, and rows wait; start a worker: pgvector-sync worker" in printed
    register_worker(docs.database)
    register_worker(docs.database, slots=1)
    register_worker(docs.database, seconds_ago=60)
    docs.run("INSERT INTO pgvector_sync.tick (name, last_at) VALUES ('tick', now() - interval '5 s')")
    assert "2 workers, 3 slots; last beat tick" in result_of(processes.command("status"))[1]
    found = json.loads(result_of(processes.command("status", "--json"))[1])
    assert found["version"] == 1
    assert (found["workers"]["alive"], found["workers"]["slots"]) == (2, 3)
    assert 5 <= found["workers"]["last_tick_seconds"] < 60
    assert found["workers"]["last_seen_seconds"] < 15


@pytest.mark.slow
def test_a_reason_in_brackets_is_shown_as_it_is(docs: Synced, processes: Processes) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'misconfigured', reason = 'pip install ''x[local]'''")
    assert "docs: pip install 'x[local]'" in result_of(processes.command("status"))[1]


@pytest.mark.slow
def test_doctor_fails_if_rows_wait_without_a_worker(docs: Synced, processes: Processes) -> None:
    def found() -> tuple[int, str, str]:
        code, printed = result_of(processes.command("doctor", "--offline", "--json"))
        [check] = [check for check in json.loads(printed)["checks"] if check["name"] == "workers"]
        return code, check["level"], check["seen"]

    assert found()[:2] == (0, "warning")
    add_a_row(docs)
    code, level, seen = found()
    assert (code, level) == (1, "error")
    assert "no worker is running, and rows wait" in seen
    register_worker(docs.database)
    assert found()[:2] == (0, "ok")


@pytest.mark.slow
def test_waiting_soon_reports_that_no_worker_is_running(docs: Synced, processes: Processes) -> None:
    waiting = processes.command("reembed", "docs", "--force", "--yes", "--wait")
    waiting.wait_for("no worker is running; start a worker", timeout=15)
    waiting.interrupt()


@pytest.mark.slow
def test_sync_counts_as_a_worker_and_leaves_no_row(docs: Synced, processes: Processes) -> None:
    sync = processes.start(*COMMAND, "sync")
    eventually(lambda: health.check().workers == 1, 20)
    docs.run("INSERT INTO docs (id, body) SELECT i, 'text ' || i FROM generate_series(100, 120) AS i")
    eventually(lambda: len(docs.vectors()) == 22, 20)
    sync.interrupt()
    sync.wait()
    assert health.check().workers == 0
