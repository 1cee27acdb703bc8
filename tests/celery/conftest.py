from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import synced as with_endpoint
from cluster import Cluster
from endpoint import Calls, Endpoint
from pgvector_sync.bootstrap import Embedders
from processes import Processes
from servers import Database, Valkey
from synced import DOCS


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Endpoint, Embedders]]:
    with with_endpoint.running_endpoint() as shared:
        yield shared


@pytest.fixture
def cluster(
    database: Database,
    valkey: Valkey,
    redis_url: str,
    processes: Processes,
    shared: tuple[Endpoint, Embedders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """The usual source with its pipeline; no worker and no beat yet."""
    processes.env |= {
        "DATABASE_URL": database.url,
        "REDIS_URL": redis_url,
        "TEST_KEY": "test-key",
        "PGVECTOR_SYNC_TEXT_LIMIT_BYTES": str(with_endpoint.TEXT_LIMIT),
    }
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.endpoint.calls, synced.endpoint.latency = Calls(), 0.0
        synced.run(DOCS)
        synced.pipeline()
        yield Cluster(synced, valkey, processes)
        synced.endpoint.heal()  # lets calls that hang go, so that processes end
