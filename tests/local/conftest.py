"""A project folder for embedded servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.local import embedded


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that every user can reach; root's servers can't reach those of pytest."""
    project = Path(tempfile.mkdtemp(prefix="pgvector-sync-project-")).resolve()
    project.chmod(0o755)
    monkeypatch.chdir(project)
    yield project
    embedded.stop(project / ".pgvector-sync")
    shutil.rmtree(project)


@pytest.fixture
def folder(project: Path) -> Path:
    return project / ".pgvector-sync"
