"""`up`: one command starts everything, one Ctrl-C stops it, and the next `up` cleans up after a kill -9."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pgvector_sync.cli.up import _shortened
from pgvector_sync.local import embedded
from pgvector_sync.local.running import ProcessLock
from support.processes import Process, Processes, running_in
from support.servers import Database
from support.waiting import eventually

pytestmark = pytest.mark.slow

READY = r"worker │ .*worker_ready"
CONFIG = """\
[pipelines.docs]
source = "docs"
text = ["body"]
provider = "local"
"""


@pytest.fixture
def processes(project: Path) -> Iterator[Processes]:
    started = Processes(project, {})
    yield started
    started.end()
    for name in ("worker", "beat"):
        child = ProcessLock(project / ".pgvector-sync" / f"{name}.running").pid
        if child is not None:
            psutil.Process(child).kill()


@pytest.fixture
def own_servers(processes: Processes, database: Database, redis_url: str) -> Database:
    """The user's own Postgres and Redis, so that `up` starts none."""
    processes.env |= {"DATABASE_URL": database.url, "REDIS_URL": redis_url}
    return database


def child_of(project: Path, name: str) -> psutil.Process:
    pid = ProcessLock(project / ".pgvector-sync" / f"{name}.running").pid
    assert pid is not None, f"no {name} runs"
    return psutil.Process(pid)


def assert_stopped(project: Path, command: Process, *, exit_code: int) -> None:
    assert command.wait(60) == exit_code, command.printed
    assert running_in(project) == []


def test_embeds_a_change_until_ctrl_c(project: Path, processes: Processes, own_servers: Database) -> None:
    own_servers.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    (project / "pgvector-sync.toml").write_text(CONFIG)
    up = processes.command("up")
    up.wait_for(READY)
    assert "using your Postgres (DATABASE_URL)" in up.printed
    assert "+ pipeline docs: public.docs → public.docs_embedding" in up.printed
    assert re.search("^beat   │ ", up.printed, re.MULTILINE)
    assert own_servers.url not in up.printed, "the URL contains the user's password"

    assert len(running_in(project)) >= 3, "up, worker and beat"
    own_servers.execute("INSERT INTO docs VALUES (1, 'a text')")
    eventually(lambda: own_servers.execute("SELECT count(*) FROM docs_embedding") == [(1,)])
    up.interrupt()
    assert_stopped(project, up, exit_code=130)
    assert not (project / ".pgvector-sync" / "servers").exists()


def test_starts_embedded_servers(project: Path, processes: Processes, folder: Path) -> None:
    up = processes.command("up")
    up.wait_for(READY)
    servers = embedded.find(folder)
    assert servers
    assert f"  export DATABASE_URL={servers.database_url}\n" in up.printed
    assert f"  export REDIS_URL={servers.redis_url}\n" in up.printed
    assert "no pgvector-sync.toml in this folder: `pgvector-sync init` proposes one" in up.printed
    assert "  pgvector-sync serve " in up.printed

    status = processes.command("status")
    assert status.wait() == 0
    assert "using the embedded Postgres and Valkey" in status.printed

    second = processes.command("up")
    assert second.wait() == 1
    assert f".pgvector-sync is in use by another `up` or `demo` (process {up.pid})" in second.printed
    assert up.exit_code is None

    up.send(signal.SIGTERM)
    assert_stopped(project, up, exit_code=0)
    assert embedded.find(folder) is None


def test_after_a_kill_9_the_next_up_takes_over(project: Path, processes: Processes, own_servers: Database) -> None:
    killed = processes.command("up")
    killed.wait_for(READY)
    killed.send(signal.SIGKILL)
    killed.wait()
    old = child_of(project, "worker"), child_of(project, "beat")

    up = processes.command("up")
    up.wait_for(READY)
    assert "stopped the worker and the beat left over from an `up` that was killed" in up.printed
    assert not any(process.is_running() for process in old)
    up.interrupt()
    assert_stopped(project, up, exit_code=130)


def test_a_worker_whose_first_process_was_killed_too(
    project: Path, processes: Processes, own_servers: Database
) -> None:
    """Its pool can live on for a while, in the same process group and with the lock."""
    killed = processes.command("up")
    killed.wait_for(READY)
    killed.send(signal.SIGKILL)
    killed.wait()
    child_of(project, "worker").kill()

    up = processes.command("up")
    up.wait_for(READY)
    up.interrupt()
    assert_stopped(project, up, exit_code=130)


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_reports_when_a_child_ends(project: Path, processes: Processes, own_servers: Database, name: str) -> None:
    up = processes.command("up")
    up.wait_for(READY)
    child_of(project, name).kill()
    assert_stopped(project, up, exit_code=1)
    last = up.printed.split(f"--- last lines of .pgvector-sync/{name}.log\n")[1]
    assert f"error: the {name} ended unexpectedly (exit code -9)" in last
    assert ("worker_ready" if name == "worker" else "beat: Starting") in last


def test_a_second_ctrl_c_stops_at_once(project: Path, processes: Processes, own_servers: Database) -> None:
    up = processes.command("up")
    up.wait_for(READY)
    child_of(project, "worker").suspend()  # it would never end
    up.interrupt()
    up.wait_for("Ctrl-C again to stop at once")
    up.interrupt()
    assert_stopped(project, up, exit_code=130)


def test_a_wrong_file_starts_nothing(project: Path, processes: Processes) -> None:
    (project / "pgvector-sync.toml").write_text(CONFIG.replace("text =", "texts ="))
    up = processes.command("up")
    assert_stopped(project, up, exit_code=2)
    assert "pgvector-sync.toml: pipelines.docs.text: expected a value, but the key is missing" in up.printed
    assert not (project / ".pgvector-sync").exists()


def test_a_refused_plan_stops_what_was_started(project: Path, processes: Processes, own_servers: Database) -> None:
    (project / "pgvector-sync.toml").write_text(CONFIG)
    up = processes.command("up")
    assert_stopped(project, up, exit_code=1)
    assert "docs" in up.printed.split("error:")[1]


def test_lines_of_the_log_are_short_on_a_terminal() -> None:
    assert (
        _shortened("2026-01-02T03:04:05.678901Z [info     ] write          stored=1") == "03:04:05 write stored=1"
    )
    assert _shortened("2026-01-02T03:04:05.678901Z [warning  ] parked  rows=1") == "03:04:05 warning parked rows=1"
    assert _shortened("worker: Warm shutdown (MainProcess)") == "worker: Warm shutdown (MainProcess)"
