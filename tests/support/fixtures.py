"""The fixtures that all folders share. `tests/conftest.py` loads them as a plugin, so no conftest imports a fixture."""

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
from support.beginnings import Beginning, Beginnings, default_source
from support.cluster import Cluster, open_cluster
from support.endpoint import Endpoint
from support.processes import Processes
from support.roles import OWNER
from support.servers import Database, Postgres, Valkey
from support.steps import Steps, another_worker
from support.synced import Synced


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    """One endpoint and its embedders for all tests of a process; `open_synced` resets the endpoint for each test."""
    with with_endpoint.running_endpoint() as shared:
        yield shared


@pytest.fixture
def synced(
    request: pytest.FixtureRequest,
    database: Database,
    shared: tuple[Endpoint, Embedders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Synced]:
    """A `Synced` without a pipeline, unless the test uses `beginning`. A failed test shows the endpoint's requests and
    its longest stall.
    """
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        if "beginning" in request.fixturenames:
            begun = request.getfixturevalue("beginnings")(request.getfixturevalue("beginning"))
            begun.continue_in(synced)
        yield synced
        print(synced.endpoint)


@pytest.fixture(scope="session")
def beginnings(
    postgres: Postgres,
    template: Database,
    shared: tuple[Endpoint, Embedders],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Beginnings]:
    """The databases that are copied for tests."""
    beginnings = Beginnings(postgres, template, shared, tmp_path_factory.mktemp("beginnings"))
    yield beginnings
    beginnings.close()


@pytest.fixture
def applied() -> None:
    """Makes `database` begin with the default source and its pipeline."""


@pytest.fixture
def beginning() -> Beginning:
    """What `database` begins with, in a test that uses this fixture: a folder or file says it in its own one."""
    return default_source


@pytest.fixture
def docs(applied: None, synced: Synced) -> Steps:
    """The default source, empty, with its pipeline applied, and one worker."""
    synced.declare()
    synced.write_file()
    return Steps(synced, synced.runtime)


@pytest.fixture
def worker(synced: Synced) -> Iterator[Callable[..., Steps]]:
    """Creates further workers; keyword arguments are fields of Settings."""
    with ExitStack() as workers:

        def make(**settings: Any) -> Steps:
            return workers.enter_context(another_worker(synced, **settings))

        yield make


@pytest.fixture
def cluster(
    database: Database,
    valkey: Valkey,
    redis_url: str,  # empties Valkey
    processes: Processes,
    shared: tuple[Endpoint, Embedders],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """The default source with its pipeline; no worker and no beat is running yet."""
    with open_cluster(database, valkey, processes, shared, monkeypatch) as cluster:
        yield cluster
        print(cluster.synced.endpoint)


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., str]]:
    """Creates a role with grants, and drops it after the test."""
    with ExitStack() as roles:
        yield lambda name, *grants: roles.enter_context(with_endpoint.role(database, name, *grants))


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `pgvector-sync …` in this process, and returns exit code, standard output and standard error."""
    load_settings.cache_clear()

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    yield run
    load_settings.cache_clear()


@pytest.fixture
def typed(
    synced: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`command_line`, connected to the test's database as the role that owns our schema."""
    monkeypatch.setenv("DATABASE_URL", synced.database.url_as(OWNER))
    return command_line
