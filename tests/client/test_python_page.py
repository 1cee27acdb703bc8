"""Runs each example of docs/python.md as printed, with a worker's privileges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.engine.loop import Loop
from pgvector_sync.runtime.bootstrap import Embedders
from support.endpoint import Endpoint
from support.roles import APPLICATION, WORKER
from support.servers import Database
from support.synced import Synced, open_synced

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """The pipeline of the examples. A background thread embeds its rows and carries out its runs."""
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(
            "CREATE TABLE articles (id bigint PRIMARY KEY, body text)",
            "INSERT INTO articles SELECT n, 'how to bake bread number ' || n FROM generate_series(1, 20) n",
        )
        synced.pipeline("articles", source="articles")
        over = threading.Event()
        thread = threading.Thread(target=lambda: Loop(synced.runtime).run(finished=over.is_set))
        thread.start()
        yield synced
        over.set()
        thread.join()


def printed(synced: Synced, example: str, folder: Path) -> str:
    role = APPLICATION if "sync.enqueue(" in example else WORKER
    done = subprocess.run(
        [sys.executable, "-c", example],
        env={**os.environ, "DATABASE_URL": synced.database.url_as(role)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, example + done.stdout + done.stderr
    return done.stdout


def test_the_examples_work_as_printed(synced: Synced, tmp_path: Path) -> None:
    said = [printed(synced, example, tmp_path) for example in EXAMPLES]
    together = "".join(said)
    assert "articles active" in together
    assert "how to bake bread number" in together
    assert "finished" in together
    assert "0 of 20 rows have drifted" in together
