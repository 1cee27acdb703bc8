"""`index recall`: the table, the plot, files of queries, and clear answers to mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.cli.query_file import read_queries
from pgvector_sync.errors import ConfigError
from pgvector_sync.model.search import QueryVector
from pgvector_sync.store import query_samples
from support.synced import DIMENSIONS, DOCS, MODEL, Synced
from support.waiting import eventually

Command = Callable[..., tuple[int, str, str]]
ROWS = 60


@pytest.fixture
def docs(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Sixty rows, their vectors, and an index that returns them all."""
    synced.run(DOCS, f"INSERT INTO docs SELECT n, 'text number ' || n FROM generate_series(1, {ROWS}) n")
    synced.pipeline()
    synced.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    monkeypatch.setenv("DATABASE_URL", synced.database.url_as("sync_worker"))
    return synced


def measured(command_line: Command, *arguments: str) -> dict[str, Any]:
    code, printed, error = command_line("index", "recall", "docs", *arguments, "--json")
    assert code == 0, error
    report: dict[str, Any] = json.loads(printed)["recall"]
    return report


@pytest.mark.usefixtures("docs")
def test_the_table_shows_each_setting_and_which_one_is_enough(command_line: Command, tmp_path: Path) -> None:
    plot = tmp_path / "recall.svg"
    code, printed, said = command_line(
        "index", "recall", "docs", "-k", "5", "--queries", "36", "--sweep", "--target", "0.9", "--plot", str(plot)
    )
    assert code == 0, said
    first, header, *lines = printed.splitlines()
    assert first == f"docs: near (hnsw of vector), {ROWS} vectors, 5 nearest, 36 queries (vectors of random rows)"
    assert header.split()[:4] == ["hnsw.ef_search", "iterative", "scan", "recall"]
    assert lines[0].split()[:3] == ["10", "off", "1.000"]
    assert "smallest" in lines[0]
    assert lines[10].startswith("smallest setting that reaches 0.9: hnsw.ef_search = 10, iterative scan off")
    assert lines[11].startswith("note: the queries are vectors of rows")
    assert "queries" in said
    # one point per setting, with its figures in words
    titles = [title.text or "" for title in ET.parse(plot).iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 10
    assert titles[0].startswith("hnsw.ef_search = 10, no iterative scan: recall 1.000")


def test_a_target_that_no_setting_reaches_is_said_and_exits_with_1(docs: Synced, command_line: Command) -> None:
    code, printed, _ = command_line("index", "recall", "docs", "--queries", "5", "--target", "0.9")
    assert code == 1
    assert "no setting reaches 0.9 with certainty: the highest recall is 1.000, at least 0.565" in printed
    assert "  → try more: pgvector-sync index recall docs --sweep" in printed
    assert "note: 5 queries are too few to show a recall of 0.9: at least 35 are needed" in printed
    assert command_line("index", "recall", "docs", "--queries", "5")[0] == 0


def test_texts_are_embedded_as_queries_and_vectors_are_not(
    docs: Synced, command_line: Command, tmp_path: Path
) -> None:
    texts, vectors = tmp_path / "texts.txt", tmp_path / "vectors.jsonl"
    texts.write_text("how to bake bread\n\n[urgent] help\n", "utf-8")
    paid = docs.paid()
    report = measured(command_line, "--queries-file", str(texts))
    assert (report["source_of_queries"], report["settings"][0]["queries"]) == ("file", 2)
    assert docs.paid() == paid + 2
    vectors.write_text("\n".join(json.dumps([float(n), *[1.0] * (DIMENSIONS - 1)]) for n in range(7)), "utf-8")
    report = measured(command_line, "--queries-file", str(vectors), "--filter", "id <= 30")
    assert (report["rows"], report["settings"][0]["queries"]) == (30, 7)
    assert docs.paid() == paid + 2


def test_logged_queries_are_the_newest_that_applications_made(docs: Synced, command_line: Command) -> None:
    code, _, error = command_line("index", "recall", "docs", "--logged")
    assert code != 0
    assert "no query of docs has been sampled for text-embedding-3-small" in error
    assert "PGVECTOR_SYNC_SAMPLE_QUERIES" in error
    made = [QueryVector("docs", MODEL, 1, [float(n), *[1.0] * (DIMENSIONS - 1)]) for n in range(9)]
    with docs.runtime.database.transaction() as connection:
        query_samples.keep(connection, made)
    paid = docs.paid()
    report = measured(command_line, "--logged", "--queries", "4")
    assert (report["source_of_queries"], report["settings"][0]["queries"]) == ("logged", 4)
    assert measured(command_line, "--logged")["settings"][0]["queries"] == 9
    assert not any("vectors of rows" in finding for finding in report["findings"])
    assert docs.paid() == paid


@pytest.mark.usefixtures("docs")
def test_mistakes_are_said_before_anything_is_measured_or_paid_for(
    docs: Synced, command_line: Command, tmp_path: Path
) -> None:
    paid = docs.paid()
    short, blank = tmp_path / "short.json", tmp_path / "blank.txt"
    short.write_text("[1, 2]", "utf-8")
    blank.write_text(" \n", "utf-8")
    for arguments, words in (
        (("nothing",), "nothing"),
        (
            ("docs", "--queries", "5", "--queries-file", str(short)),
            "expected --queries or --queries-file, got both",
        ),
        (("docs", "--logged", "--queries-file", str(short)), "expected --logged or --queries-file, got both"),
        (("docs", "--queries-file", str(tmp_path / "none")), "No such file"),
        (("docs", "--queries-file", str(blank)), "it has no queries"),
        (("docs", "--queries-file", str(short)), f"query 1: expected a query of {DIMENSIONS} dimensions, got 2"),
        (("docs", "--plot", str(tmp_path / "no" / "plot.svg")), "No such file"),
        (("docs", "--filter", "nothing = 1"), "the condition is not valid for public.docs"),
        (("docs", "--filter", "1 / (id - id) = 1"), "the condition fails (22012)"),
        (("docs", "--target", "95"), "expected a target between 0 and 1, got 95"),
    ):
        code, printed, error = command_line("index", "recall", *arguments)
        assert (code != 0, printed) == (True, ""), arguments
        assert words in error
        assert "Traceback" not in error
    unused = tmp_path / "unused.svg"
    assert command_line("index", "recall", "docs", "--filter", "id < 0", "--plot", str(unused))[0] == 1
    assert not unused.exists(), "no empty picture is left"
    assert docs.paid() == paid


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\r\n", ["one", "two"]),
        ("\ufeffone", ["one"]),
        ("[1, 2]\n[3, 4.5]", [[1.0, 2.0], [3.0, 4.5]]),
        ("[[1, 2],\n [3, 4]]", [[1.0, 2.0], [3.0, 4.0]]),
        ("[1]", [[1.0]]),
        ("[true]\n[]\n{}", ["[true]", "[]", "{}"]),
        ("[1, 2]\ntext", "line 2 isn't a vector"),
        ("", "it has no queries"),
    ],
)
def test_a_file_has_texts_or_vectors(tmp_path: Path, content: str, expected: object) -> None:
    path = tmp_path / "queries"
    path.write_text(content, "utf-8", newline="")
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            read_queries(path)
    else:
        assert read_queries(path) == expected


@pytest.mark.slow
def test_ctrl_c_ends_the_statement_on_the_server(docs: Synced) -> None:
    slow = "CASE WHEN id = 40 THEN pg_sleep(60)::text = '' ELSE true END"
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
        "AND query LIKE '%%pg_sleep%%' AND pid <> pg_backend_pid()"
    )
    command = [sys.executable, "-m", "pgvector_sync", "index", "recall", "docs", "--filter", slow]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: docs.database.value(running) == 1)
        process.send_signal(signal.SIGINT)
        printed, error = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, b"")
    assert b"Traceback" not in error
    assert docs.database.value(running) == 0
