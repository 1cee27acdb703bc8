"""A project for embedded servers, an endpoint, and commands as they are typed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from endpoint import Endpoint
from pgvector_sync.bootstrap import Embedders
from pgvector_sync.cli import main
from pgvector_sync.operate import embedded
from pgvector_sync.settings import load_settings
from servers import Database
from synced import Synced, open_synced, running_endpoint


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


@pytest.fixture
def typed(
    synced: Synced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `pgvector-sync …`: exit code, output and complaints."""
    monkeypatch.setenv("DATABASE_URL", synced.database.url)
    load_settings.cache_clear()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    load_settings.cache_clear()
