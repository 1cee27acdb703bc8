"""`status --watch` as a process: in a real terminal, in a pipe, and while the database is away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.beginnings import begins_with
from support.processes import COMMAND, Process, Processes
from support.proxy import Proxy
from support.synced import DOCS, Synced
from support.terminal import Terminal
from support.waiting import eventually

WATCH = (*COMMAND, "status", "--watch", "--every", "200ms")


def one_row(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.run("ANALYZE docs")


beginning, begun = begins_with(one_row)


@pytest.fixture
def docs(begun: Synced, processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The usual source and its pipeline, and a proxy between commands and the database."""
    with Proxy(begun.database.url) as proxy:
        monkeypatch.setenv("DATABASE_URL", proxy.url)
        monkeypatch.chdir(tmp_path)
        yield proxy


@pytest.fixture
def terminal(docs: Proxy) -> Iterator[Terminal]:
    with Terminal(WATCH, {"DATABASE_URL": docs.url}) as terminal:
        terminal.shows("docs +active")
        yield terminal


def test_it_follows_changes_and_the_size_of_the_terminal_and_q_leaves_it_as_it_was(
    synced: Synced, terminal: Terminal
) -> None:
    assert b"\x1b[?1049h" in terminal.written, "it is drawn on the alternate screen"
    synced.run("INSERT INTO docs SELECT n, 'text' FROM generate_series(2, 5) n")
    terminal.shows("no worker is running, and rows wait")
    terminal.resize(40, 12)
    terminal.shows(r"start a worker: pgvector-sync worker\s+\(or, without")  # wrapped now
    synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'a note'")
    terminal.shows(r"docs +paused")
    terminal.types("xq")
    assert terminal.ends() == 0
    assert terminal.restored


@pytest.mark.parametrize("how", ["ctrl-c", pytest.param("sigterm", marks=pytest.mark.slow)])
def test_an_interrupted_watch_leaves_the_terminal_as_it_was(terminal: Terminal, how: str) -> None:
    terminal.types("\x03") if how == "ctrl-c" else terminal.send(signal.SIGTERM)
    assert terminal.ends() == 130
    assert terminal.restored
    assert "Traceback" not in terminal.text


def test_it_says_that_the_database_is_away_and_goes_on_when_it_is_back(
    synced: Synced, docs: Proxy, terminal: Terminal
) -> None:
    docs.refuse()
    terminal.shows(r"(?s)out of reach.*figures are [\d.]+ s\s+old")
    docs.heal()
    synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused'")
    terminal.shows("docs +paused")
    docs.mute()
    terminal.shows(r"no answer from the\s+database; these\s+figures", timeout=15)
    terminal.types("q")  # not even a silent database keeps it
    assert terminal.ends(timeout=5) == 0
    assert terminal.restored


@pytest.mark.slow
def test_a_suspended_watch_gives_the_terminal_back_and_continues(terminal: Terminal) -> None:
    terminal.types("\x1a")
    eventually(lambda: terminal.stopped)
    assert terminal.restored
    terminal.send(signal.SIGCONT)
    terminal.shows("docs +active")
    terminal.types("q")
    assert terminal.ends() == 0


@pytest.mark.slow
def test_without_colours_and_without_unicode_it_shows_the_same(docs: Proxy) -> None:
    plain = {"DATABASE_URL": docs.url, "NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with Terminal(WATCH, plain) as terminal:
        terminal.shows(r"\+ docs +active +100 % +#{10}")
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", terminal.written), "no colours"
        terminal.types("q")
        assert terminal.ends() == 0


def test_in_a_pipe_it_writes_lines_of_what_has_changed(synced: Synced, docs: Proxy, processes: Processes) -> None:
    watch = processes.start(*WATCH)
    stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    watch.wait_for(f"(?m){stamp}docs: active, 100 % fresh, 0 waiting, 0 in flight, 0 dead, [\\d.]+ rows/s$")
    synced.run("INSERT INTO docs VALUES (2, 'two')")
    watch.wait_for(f"(?m){stamp}docs: active, .*1 waiting, .*lag ")
    watch.wait_for(f"(?m){stamp}workers: no worker is running, and rows wait → start a worker")
    docs.refuse()
    watch.wait_for(f"(?m){stamp}database: the database is out of reach: .*; trying again$")
    docs.heal()
    watch.wait_for(f"(?m){stamp}database: answers again after ")
    synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'a note'")
    watch.wait_for("docs: paused, .*; paused: a note; .* → to resume it: pgvector-sync resume docs")
    lines = watch.printed.splitlines()
    assert all(re.match(stamp, line) for line in lines)
    assert len(lines) <= 10, "a line says something new"
    assert interrupted(watch) == 130


@pytest.mark.slow
def test_documents_are_one_per_line_and_what_went_wrong_is_on_stderr(docs: Proxy, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        watch = subprocess.Popen([*WATCH, "--json"], stdout=subprocess.PIPE, stderr=stderr)
        try:
            assert watch.stdout is not None
            documents = [json.loads(watch.stdout.readline()) for _ in range(2)]
            assert [document["pipelines"][0]["name"] for document in documents] == ["docs", "docs"]
            docs.refuse()
            eventually(lambda: b"database: the database is out of reach" in errors.read_bytes())
            docs.heal()
            eventually(lambda: b"answers again" in errors.read_bytes())
            assert json.loads(watch.stdout.readline())["version"] == 1
        finally:
            watch.kill()
            watch.communicate()


@pytest.mark.parametrize("options", ["", pytest.param("--json", marks=pytest.mark.slow)])
def test_it_ends_quietly_when_nobody_reads_any_more(synced: Synced, docs: Proxy, options: str) -> None:
    command = f"{' '.join(WATCH)} {options} | head -n 1; exit ${{PIPESTATUS[0]}}"
    with subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline()
        synced.run("INSERT INTO docs VALUES (2, 'two')")  # something to write
        _, errors = shell.communicate(timeout=20)
    assert shell.returncode == 1
    assert errors == b""


def test_an_unusable_interval_is_refused(command_line: Callable[..., tuple[int, str, str]]) -> None:
    for given in ("3x", "0.1s", "2h", "-1s"):
        code, _, said = command_line("status", "--watch", f"--every={given}")
        assert (code, f"such as 2s, got '{given}'" in said) == (2, True)
    code, _, said = command_line("status", "--every", "2s")
    assert (code, "expected --watch" in said) == (2, True)


def test_an_unknown_pipeline_is_refused_as_without_watch(docs: Proxy, processes: Processes) -> None:
    watch = processes.start(*WATCH, "nope")
    assert watch.wait() == 1
    assert "there is no pipeline nope" in watch.printed


def test_a_look_is_few_statements(synced: Synced, docs: Proxy, processes: Processes) -> None:
    """One per subject, in one transaction, however many pipelines there are."""
    from pgvector_sync.observe.live import look

    for name in ("more", "most"):
        synced.declare(name, target=f"public.{name}")
    synced.apply()
    counted: list[str] = []
    with synced.runtime.database.transaction(read_only=True) as connection:
        execute = connection.execute
        connection.execute = lambda query, *more, **options: counted.append("") or execute(query, *more, **options)  # type: ignore[method-assign]
        seen = look(connection)
        del connection.execute
    assert len(seen.pipelines) == 3
    assert len(counted) == 4


def interrupted(process: Process) -> int:
    os.killpg(process.pid, signal.SIGINT)
    return process.wait()
