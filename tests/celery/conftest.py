from __future__ import annotations

from collections.abc import Iterator

import pytest

import synced as with_endpoint
from cluster import Cluster, open_cluster
from endpoint import Endpoint
from pgvector_sync.bootstrap import Embedders
from processes import Processes
from servers import Database, Valkey


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    with with_endpoint.running_endpoint() as shared:
        yield shared


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
