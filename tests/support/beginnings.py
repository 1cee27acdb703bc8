"""Databases with which tests begin: each is prepared once per process, and copied for every test that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.runtime.bootstrap import Embedders
from support import canaries
from support.endpoint import Endpoint
from support.servers import Database, Postgres, new_database
from support.synced import DOCS, Synced, open_synced

Beginning = Callable[[Synced], None]
"""Fills a database: declares pipelines, applies and syncs them. Nothing that outlives a database, such as a role."""
KEPT = 4
"""So many are kept; tests of one file, which have the same one, run after one another."""


def default_source(synced: Synced) -> None:
    """The default source, empty, with its pipeline."""
    synced.run(DOCS)
    synced.pipeline()


def ten_rows(synced: Synced) -> None:
    """Ten rows of the default source, each with its vector."""
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 10) n")
    synced.pipeline()


def integer_keys(rows: int) -> Beginning:
    """So many rows, whose keys can still be widened, each with its vector."""

    def fill(synced: Synced) -> None:
        synced.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text)",
            f"INSERT INTO docs SELECT g, 'text ' || g FROM generate_series(1, {rows}) g",
        )
        synced.pipeline()

    return fill


def begins_with(fill: Beginning) -> tuple[Any, Any]:
    """Returns two fixtures of a file or folder: `beginning`, which must have this name, and `synced` in such a database.

    beginning, docs = begins_with(ten_rows)
    """

    def beginning() -> Beginning:
        return fill

    def begun(beginning: Beginning, synced: Synced) -> Synced:
        return synced

    return pytest.fixture(beginning), pytest.fixture(begun)


@dataclass
class Begun:
    """A filled database, to be copied."""

    database: Database
    declared: dict[str, dict[str, Any]]
    provider: dict[str, Any]
    _open: ExitStack

    def continue_in(self, synced: Synced) -> None:
        """Lets a test declare further what was declared here."""
        synced.declared, synced.provider = deepcopy(self.declared), deepcopy(self.provider)
        synced.write_file()

    def close(self) -> None:
        self._open.close()


class Beginnings:
    """The filled databases of a process. Copying one takes a fifth of the time of applying a pipeline."""

    def __init__(
        self, server: Postgres, template: Database, shared: tuple[Endpoint, Embedders], folder: Path
    ) -> None:
        self._server = server
        self._template = template
        self._shared = shared
        self._folder = folder
        self._begun: dict[Beginning, Begun] = {}

    def __call__(self, fill: Beginning) -> Begun:
        """The database that this function has filled."""
        begun = self._begun.pop(fill, None) or self._fill(fill)
        self._begun[fill] = begun  # the last one now
        for oldest in list(self._begun)[:-KEPT]:
            self._begun.pop(oldest).close()
        return begun

    def _fill(self, fill: Beginning) -> Begun:
        with ExitStack() as stack:
            database = stack.enter_context(new_database(self._server, template=self._template.name))
            with (
                canaries.watched(),
                pytest.MonkeyPatch.context() as patch,
                open_synced(database, self._shared, self._folder, patch) as synced,
            ):
                fill(synced)
            return Begun(database, synced.declared, synced.provider, stack.pop_all())

    def close(self) -> None:
        for begun in self._begun.values():
            begun.close()
