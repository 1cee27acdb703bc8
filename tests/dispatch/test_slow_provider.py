"""Workers and a provider with one processor: what one process has learned about its speed spares the others."""

from __future__ import annotations

import pytest

from support.cluster import Cluster
from support.limited_endpoint import SerialEndpoint
from support.waiting import eventually

ROWS = 2_000


@pytest.mark.slow
def test_processes_that_overload_a_slow_provider_slow_down_together(cluster: Cluster) -> None:
    with SerialEndpoint(seconds_per_text=0.005) as slow:
        cluster.synced.run(f"UPDATE pgvector_sync.provider SET base_url = '{slow.base_url}'")
        cluster.synced.run(
            f"INSERT INTO docs SELECT i, i || repeat(' word', 80) FROM generate_series(1, {ROWS}) AS i"
        )
        limits = {"PROVIDER_TIMEOUT": "1", "DEADLINE": "3", "LEASE": "3"}
        worker = cluster.worker("prefork", 4, **{f"PGVECTOR_SYNC_{name}": value for name, value in limits.items()})
        stored = "SELECT count(*) FROM docs_embedding"
        eventually(lambda: cluster.synced.database.value(stored) == ROWS, 100)
        worker.terminate()
        known = cluster.synced.shape().pipeline.learned
        assert known.bytes_per_second is not None
        in_vain = slow.computed - ROWS
        assert in_vain <= 5 * 512, "one batch per process, and a little at the right size"
        cluster.synced.exact()
