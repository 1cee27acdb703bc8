"""The fixtures that every folder shares, as a plugin that `tests/conftest.py` loads: no conftest imports a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.cli import main
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.settings import load_settings
from support import synced as with_endpoint
from support.cluster import Cluster, open_cluster
from support.endpoint import Endpoint
from support.processes import Processes
from support.roles import OWNER
from support.servers import Database, Valkey
from support.steps import Steps, another_worker
from support.synced import DOCS, Synced


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    """One endpoint and its embedders for all tests of a process; `open_synced` resets it for each test."""
    with with_endpoint.running_endpoint() as shared:
        yield shared


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """No pipeline yet. A failed test shows what the endpoint was asked, and whether it was stalled."""
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        yield synced
        print(synced.endpoint)


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


@pytest.fixture
def cluster(
    database: Database,
    valkey: Valkey,
    redis_url: str,  # an empty one
    processes: Processes,
    shared: tuple[Endpoint, Embedders],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """The usual source with its pipeline; no worker and no beat yet."""
    with open_cluster(database, valkey, processes, shared, monkeypatch) as cluster:
        yield cluster
        print(cluster.synced.endpoint)


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., str]]:
    """Makes a role with grants, and drops it afterwards."""
    with ExitStack() as roles:
        yield lambda name, *grants: roles.enter_context(with_endpoint.role(database, name, *grants))


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `pgvector-sync …` in this process: exit code, standard output and standard error."""
    load_settings.cache_clear()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    load_settings.cache_clear()


@pytest.fixture
def typed(
    synced: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`command_line`, as the owner of the test's database."""
    monkeypatch.setenv("DATABASE_URL", synced.database.url_as(OWNER))
    return command_line
