from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.runtime.bootstrap import Embedders
from support import synced as with_endpoint
from support.endpoint import Endpoint
from support.servers import Database
from support.synced import DOCS, Synced


@pytest.fixture
def docs(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """A pipeline in sync."""
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
        synced.pipeline()
        yield synced


@pytest.fixture
def worker_role(database: Database) -> Iterator[str]:
    """A role without any right."""
    with with_endpoint.role(database, "worker") as name:
        yield name
