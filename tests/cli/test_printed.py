"""What commands print arrives, whatever terminal, encoding or file it goes to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from pgvector_sync.cli.console import progress
from support.synced import DOCS, Synced
from support.terminal import Terminal

FULL = Path("/dev/full")
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def docs(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Synced:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'Gr\u00fc\u00dfe \U0001f600')")
    synced.pipeline()
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    return synced


def run(*arguments: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pgvector_sync", *arguments]
    return subprocess.run(command, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)


@pytest.mark.usefixtures("docs")
def test_a_row_is_printed_even_if_the_encoding_lacks_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    table = run("search", "docs", "text")
    assert table.returncode == 0, table.stderr
    assert "Gr\\u00fc\\u00dfe \\ud83d\\ude00" in table.stdout
    document = run("search", "docs", "text", "--json")
    assert json.loads(document.stdout)["hits"][0]["text"] == "Gr\u00fc\u00dfe \U0001f600"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("--help",)])
def test_a_full_disk_is_reported_as_such(arguments: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    first, advice = done.stderr.splitlines()
    assert first == f"error: the output can't be written: {os.strerror(28)}"
    assert "free space" in advice


def test_a_narrow_terminal_wraps_status_and_cuts_nothing(docs: Synced) -> None:
    environment = {"DATABASE_URL": docs.database.url, "COLUMNS": "40"}
    with Terminal([sys.executable, "-m", "pgvector_sync", "status"], environment) as terminal:
        assert terminal.ends() == 0
        assert "active" in terminal.text
        assert "\u2026" not in terminal.text


def test_without_a_pipeline_status_has_no_table(typed: Typed, synced: Synced) -> None:
    code, out, _ = typed("status")
    assert code == 0
    assert out.startswith("no pipelines yet: propose one with `pgvector-sync init`")
    assert "in flight" not in out


def test_search_shows_a_key_in_the_form_that_other_commands_accept(typed: Typed, synced: Synced) -> None:
    synced.run(
        "CREATE TABLE items (region text, number int, body text, PRIMARY KEY (region, number))",
        "INSERT INTO items VALUES ('eu', 7, 'text')",
    )
    synced.pipeline("items", source="items")
    synced.settle()
    assert '["eu", 7]' in typed("search", "items", "text")[1]


def test_a_total_that_was_estimated_grows_with_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("syncing", 20) as bar:
        for done in (10, 20, 30):
            bar.reach(done)
    assert capsys.readouterr().err.split("\n")[-2] == "syncing: 30 of 30"
