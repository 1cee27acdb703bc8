"""`--wait`: a worker or beat that starts before the database is usable waits for it instead of exiting."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator

import pytest

from support.cluster import READY
from support.processes import Processes
from support.servers import Database
from support.waiting import eventually

WAITS = r"waiting_for_database"


@pytest.fixture
def unmigrated(bare_database: Database, redis_url: str, processes: Processes) -> Iterator[Processes]:
    """Processes whose database has no schema of ours yet."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most a hundred characters
        processes.env |= {"DATABASE_URL": bare_database.url, "REDIS_URL": redis_url, "TMPDIR": short}
        yield processes
        processes.end()


@pytest.mark.slow
def test_a_worker_that_starts_before_migrate_waits_for_it(unmigrated: Processes) -> None:
    worker = unmigrated.command("worker", "--wait", "--concurrency", "1")
    worker.wait_for(WAITS + r".*no pgvector_sync schema")
    worker.wait_for("pgvector-sync migrate")
    probe = unmigrated.command("probe", "worker")
    assert probe.wait() == 1
    assert "no pgvector_sync schema" in probe.printed
    assert unmigrated.command("probe", "worker", "--live").wait() == 0, "so that no liveness probe restarts it"
    assert unmigrated.command("migrate").wait() == 0
    worker.wait_for(READY)
    eventually(lambda: unmigrated.command("probe", "worker").wait() == 0, 20, what="it is ready")
    assert worker.terminate() == 0
    assert worker.printed.count("waiting_for_database") == 1, "it logs a reason once, not with every try"


@pytest.mark.parametrize("command", ["beat", pytest.param("worker", marks=pytest.mark.slow)])
def test_while_it_waits_for_an_unreachable_database_it_can_be_stopped(unmigrated: Processes, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    unmigrated.env["DATABASE_URL"] = f"postgresql://worker:hunter2@127.0.0.1:{port}/app"
    process = unmigrated.command(command, "--wait")
    process.wait_for(WAITS + r".*out of reach")
    assert process.terminate() == 0
    assert "hunter2" not in process.printed
    assert "Traceback" not in process.printed


@pytest.mark.slow
def test_a_wrong_setting_ends_it_in_spite_of_wait(unmigrated: Processes) -> None:
    worker = unmigrated.command("worker", "--wait", PGVECTOR_SYNC_POLL="60")
    assert worker.wait() == 2
    assert "PGVECTOR_SYNC_POLL" in worker.printed


@pytest.mark.slow
@pytest.mark.parametrize("command", ["worker", "beat"])
def test_without_wait_a_missing_schema_ends_it_with_what_to_do(unmigrated: Processes, command: str) -> None:
    process = unmigrated.command(command)
    assert process.wait() == 1
    assert "pgvector-sync migrate" in process.printed
