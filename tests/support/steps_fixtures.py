"""`docs`, `worker` and `synced` for tests that go through the protocol step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.runtime.bootstrap import Embedders
from support import synced as with_endpoint
from support.endpoint import Calls, Endpoint
from support.servers import Database
from support.steps import Steps, another_worker
from support.synced import DOCS, Synced
from support.synced_fixtures import shared

__all__ = ["docs", "quick_pauses", "shared", "synced", "worker"]


@pytest.fixture(autouse=True)
def quick_pauses(short_pauses: None) -> None:
    """For all tests of a folder that imports it."""


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.endpoint.calls, synced.endpoint.latency = Calls(), 0.0
        yield synced


@pytest.fixture
def docs(synced: Synced) -> Steps:
    """The usual source, empty, with its pipeline applied, and one worker."""
    synced.run(DOCS)
    synced.pipeline()
    return Steps(synced, synced.runtime)


@pytest.fixture
def worker(synced: Synced) -> Iterator[Callable[..., Steps]]:
    """Makes further workers, with settings of their own."""
    with ExitStack() as workers:

        def make(**settings: Any) -> Steps:
            return workers.enter_context(another_worker(synced, **settings))

        yield make
