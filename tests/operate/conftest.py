"""A project for embedded servers, an endpoint, and commands as they are typed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoint import Endpoint
from pgvector_sync.bootstrap import Embedders
from pgvector_sync.operate import embedded
from servers import Database
from synced import Synced, open_synced, running_endpoint
from synced_fixtures import typed

__all__ = ["typed"]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that every user reaches; pytest's own are closed to the account of root's servers."""
    project = Path(tempfile.mkdtemp(prefix="pgvector-sync-project-")).resolve()
    project.chmod(0o755)
    monkeypatch.chdir(project)
    yield project
    embedded.stop(project / ".pgvector-sync")
    shutil.rmtree(project)


@pytest.fixture
def folder(project: Path) -> Path:
    return project / ".pgvector-sync"


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    with running_endpoint() as shared:
        yield shared


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """A migrated database without a table."""
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        yield synced
