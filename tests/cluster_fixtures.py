"""The fixture around `Cluster`, for every folder whose tests start workers: its conftest imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster, open_cluster
from endpoint import Endpoint
from pgvector_sync.bootstrap import Embedders
from processes import Processes
from servers import Database, Valkey


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
