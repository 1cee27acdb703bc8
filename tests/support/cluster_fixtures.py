"""The fixture around `Cluster`, for every folder whose tests start workers: its conftest imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgvector_sync.runtime.bootstrap import Embedders
from support.cluster import Cluster, open_cluster
from support.endpoint import Endpoint
from support.processes import Processes
from support.servers import Database, Valkey


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
