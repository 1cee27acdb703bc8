"""A pipeline with real servers, worker and endpoint, in which commands of the runbook are run."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.cli import main
from pgvector_sync.settings import load_settings
from support.blocks import search_path
from support.cluster import Cluster
from support.processes import Process
from support.synced import Synced
from support.waiting import eventually

SERVE = "http://127.0.0.1:8187"
"""The address of `serve` in the runbook; a test's own has a free port."""
SOURCE = "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text)"


@dataclass
class Scene:
    cluster: Cluster
    folder: Path
    happens: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What a mark in the runbook says that happens before a command."""
    env: dict[str, str] = field(default_factory=dict)
    serve_url: str = SERVE
    solved: Callable[[], object] = lambda: None
    """Waits until what the runbook says has solved it, or fails."""

    @property
    def synced(self) -> Synced:
        return self.cluster.synced

    def worker(self, pool: str = "threads", concurrency: int = 4, **env: str) -> Process:
        return self.cluster.worker(pool, concurrency, **env)

    def beat(self) -> Process:
        process = self.cluster.processes.command("beat")
        eventually(lambda: self.value("SELECT max(last_at) FROM pgvector_sync.tick WHERE name = 'tick'"), 30)
        return process

    def write(self, count: int, *, start: int = 1) -> None:
        self.synced.run(
            f"INSERT INTO articles SELECT i, 'Title ' || i, 'About the number ' || i FROM generate_series({start}, {start + count - 1}) AS i",
            "ANALYZE articles",
        )

    def ages(self) -> None:
        """Makes everything that waits ten minutes older."""
        self.synced.run(
            "UPDATE pgvector_sync.work SET waiting_since = waiting_since - interval '10 minutes'",
            "UPDATE pgvector_sync.outbox SET at = at - interval '10 minutes'",
        )

    def value(self, query: str) -> Any:
        return self.synced.database.value(query)

    def state(self) -> str:
        return self.value("SELECT state FROM pgvector_sync.pipeline WHERE name = 'articles'")

    def waits_for(self, state: str) -> None:
        eventually(lambda: self.state() == state, 30, what=f"articles is {state}")

    def holds(self, condition: str) -> None:
        eventually(lambda: self.value(f"SELECT {condition}"), 30, what=condition)

    def settled(self) -> None:
        """Waits until every article has its vector."""
        missing = "SELECT count(*) FROM articles FULL JOIN articles_embedding USING (id) WHERE embedding IS NULL OR body IS NULL"
        eventually(lambda: self.value(missing) == 0, 60, what="every article has its vector")

    def run(self, body: str) -> str:
        """Runs a command of the runbook, and returns what it prints to stdout and stderr."""
        given = re.fullmatch(r"(?:DATABASE_URL=\$(?P<url>\w+) )?pgvector-sync (?P<arguments>.+)", body)
        if given:  # in this process, where a test can shorten what takes minutes
            url = {"DATABASE_URL": self.env[given["url"]]} if given["url"] else {}
            return self._in_this_process(shlex.split(given["arguments"]), url)
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", body.replace(SERVE, self.serve_url)],
            env=os.environ | self.env | {"PATH": search_path()},
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout

    def _in_this_process(self, arguments: list[str], env: dict[str, str]) -> str:
        printed = io.StringIO()
        load_settings.cache_clear()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
            for name, value in (self.env | env).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        load_settings.cache_clear()
        assert ended.value.code in {0, 1, None}, printed.getvalue()
        return printed.getvalue()
