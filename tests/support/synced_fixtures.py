"""The fixtures around `Synced`, for every folder whose tests sync: a conftest imports the ones that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgvector_sync.cli import main
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.settings import load_settings
from support import synced as with_endpoint
from support.endpoint import Endpoint
from support.roles import OWNER
from support.servers import Database
from support.synced import Synced


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    """One endpoint and its embedders for all tests of a process."""
    with with_endpoint.running_endpoint() as shared:
        yield shared


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        yield synced


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., str]]:
    """Makes a role with grants, and takes it away again."""
    with ExitStack() as roles:
        yield lambda name, *grants: roles.enter_context(with_endpoint.role(database, name, *grants))


@pytest.fixture
def typed(
    synced: Synced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `pgvector-sync …`: exit code, output and complaints."""
    monkeypatch.setenv("DATABASE_URL", synced.database.url_as(OWNER))
    load_settings.cache_clear()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    load_settings.cache_clear()
