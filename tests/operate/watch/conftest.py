from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import synced as with_endpoint
from endpoint import Endpoint
from pgvector_sync.bootstrap import Embedders
from pgvector_sync.operate import watch
from pgvector_sync.operate.status import read_status
from servers import Database
from synced import DOCS, Synced


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
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
def docs(synced: Synced) -> Synced:
    """A pipeline in sync. Rows enough that one orphan is not suspicious."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c')")
    synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(101, 110) i")
    synced.pipeline()
    return synced


@pytest.fixture
def seen(synced: Synced) -> Callable[..., tuple[str, str | None]]:
    """Lets the watch look, and returns state and reason as `status` shows them."""

    def look(name: str = "docs") -> tuple[str, str | None]:
        watch.look_now(synced.runtime.database)
        [status] = read_status(synced.runtime.database, name)
        return status.state.value, status.reason

    return look
