"""Stopping a worker while a call is in flight, as an orchestrator does with SIGTERM."""

from __future__ import annotations

import time

import pytest

from support.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("pool", ["threads", "prefork"])]


def test_an_answer_in_flight_is_written_and_the_worker_ends_at_once(cluster: Cluster, pool: str) -> None:
    cluster.synced.endpoint.latency = 2.0
    worker = cluster.worker(pool)
    cluster.insert(10)
    cluster.in_call()
    began = time.monotonic()
    assert worker.terminate() == 0
    assert time.monotonic() - began < 15, "it doesn't wait for the end of a grace period"
    assert len(cluster.synced.vectors()) == 10
    assert cluster.synced.paid() == 10
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work") == 0


def test_a_call_that_hangs_delays_the_end_by_its_own_time_limit(cluster: Cluster, pool: str) -> None:
    cluster.synced.endpoint.fail("hang", seconds=60)
    worker = cluster.worker(pool, PGVECTOR_SYNC_PROVIDER_TIMEOUT="3")
    cluster.insert(10)
    cluster.in_call()
    assert worker.terminate() == 0
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work") == 10, "its rows wait"
