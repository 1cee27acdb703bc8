"""A process that is frozen for longer than its lease, and then continues as if nothing had happened."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from pgvector_sync.database.session import IDLE_IN_TRANSACTION
from pgvector_sync.failpoint import Failpoint
from support.cluster import Cluster, Points, children
from support.waiting import eventually

pytestmark = pytest.mark.slow

SHORT = {
    "PGVECTOR_SYNC_LEASE": "2",
    "PGVECTOR_SYNC_DEADLINE": "1.5",
    "PGVECTOR_SYNC_BACKOFF_FIRST": "0.2",
}


def freeze_at(cluster: Cluster, points: Points, point: Failpoint) -> psutil.Process:
    """A child that has stopped there while it holds forty claimed rows."""
    worker = cluster.worker(concurrency=1, **SHORT, **points.env)
    cluster.insert(40)
    cluster.settles()
    points.arm(point, "stop")
    cluster.synced.run("UPDATE docs SET body = body || ' changed'")
    points.wait_for(point)
    [frozen] = eventually(lambda: [c for c in children(worker) if c.status() == psutil.STATUS_STOPPED])
    return frozen


@pytest.mark.parametrize("point", [Failpoint.READ_DONE, Failpoint.EMBED_ANSWERED, Failpoint.WRITE_COMMITTED])
def test_a_process_frozen_between_transactions_loses_its_lease_and_writes_nothing_afterwards(
    cluster: Cluster, tmp_path: Path, point: Failpoint
) -> None:
    frozen = freeze_at(cluster, Points(tmp_path), point)
    cluster.synced.run("UPDATE docs SET body = body || ' and again' WHERE id <= 20")
    cluster.worker(concurrency=1, **SHORT)
    cluster.settles()
    written = "SELECT max(embedded_at) FROM docs_embedding"
    before = cluster.synced.database.value(written)
    frozen.resume()
    cluster.insert(1, start=1_000)
    cluster.settles()
    assert cluster.synced.database.value(f"{written} WHERE id < 1000") == before
    assert frozen.is_running()


@pytest.mark.parametrize("point", [Failpoint.WRITE_LOCKED, Failpoint.WRITE_WRITTEN, Failpoint.WRITE_ACKED])
def test_a_process_frozen_while_it_holds_locks_loses_them_before_the_application_waits_long(
    cluster: Cluster, tmp_path: Path, point: Failpoint
) -> None:
    frozen = freeze_at(cluster, Points(tmp_path), point)
    began = time.monotonic()
    cluster.synced.run("DELETE FROM docs WHERE id <= 20")
    waited = time.monotonic() - began
    assert waited < IDLE_IN_TRANSACTION.total_seconds() + 2
    cluster.worker(concurrency=1, **SHORT)
    cluster.settles()
    frozen.resume()
    cluster.insert(1, start=1_000)
    cluster.settles()
    assert frozen.is_running()
