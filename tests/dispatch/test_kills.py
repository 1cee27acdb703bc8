"""Children, parents and databases that die during a call, and workers that are asked to stop."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from support.cluster import Cluster, children, kill_children
from support.processes import Process
from support.waiting import eventually

pytestmark = pytest.mark.slow

SHORT = {"PGVECTOR_SYNC_LEASE": "2", "PGVECTOR_SYNC_DEADLINE": "2"}


def busy(cluster: Cluster, pool: str = "prefork", env: dict[str, str] = SHORT) -> Process:
    """A worker of one child, in the middle of a call that will never be answered."""
    cluster.synced.endpoint.fail("hang", seconds=60)
    worker = cluster.worker(pool, concurrency=1, **env)
    cluster.insert(10)
    cluster.in_call()
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 10
    return worker


def test_a_child_killed_in_mid_call_is_replaced_and_its_rows_are_embedded(cluster: Cluster) -> None:
    worker = busy(cluster)
    kill_children(worker)
    cluster.synced.covered()
    cluster.synced.endpoint.heal()
    cluster.settles()
    assert worker.exit_code is None


def test_rows_of_a_killed_child_are_taken_up_at_once_and_their_attempt_counts(cluster: Cluster) -> None:
    worker = busy(cluster, env={})  # with a lease of 15 s
    kill_children(worker)
    killed = time.monotonic()
    attempts = "SELECT max(attempts) FROM pgvector_sync.work"
    eventually(lambda: cluster.synced.database.value(attempts) == 2, what="claimed again")
    assert time.monotonic() - killed < 5, "a second or two on a machine that isn't busy"
    cluster.synced.endpoint.heal()
    cluster.settles()


def test_rows_of_a_killed_worker_are_taken_up_after_a_lease_of_15_seconds(cluster: Cluster) -> None:
    busy(cluster, env={}).kill()
    killed = time.monotonic()
    cluster.worker(concurrency=1)
    attempts = "SELECT max(attempts) FROM pgvector_sync.work"
    eventually(lambda: cluster.synced.database.value(attempts) == 2, 30, what="claimed again")
    assert time.monotonic() - killed < 20
    cluster.synced.endpoint.heal()
    cluster.settles()


def test_a_parent_killed_in_mid_call_leaves_no_child_behind_and_another_worker_continues(cluster: Cluster) -> None:
    worker = busy(cluster)
    orphans = children(worker)
    assert orphans
    os.kill(worker.pid, signal.SIGKILL)
    cluster.synced.endpoint.heal()
    assert psutil.wait_procs(orphans, timeout=20)[1] == []
    cluster.synced.covered()
    cluster.worker(**SHORT)
    cluster.settles()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_killed_with_all_its_children_is_made_up_for_by_another(cluster: Cluster, pool: str) -> None:
    busy(cluster, pool).kill()
    cluster.synced.covered()
    cluster.synced.endpoint.heal()
    cluster.worker(pool, **SHORT)
    cluster.settles()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_asked_to_stop_in_mid_call_finishes_its_batch(cluster: Cluster, pool: str) -> None:
    cluster.synced.endpoint.latency = 1.5
    worker = cluster.worker(pool, concurrency=1)
    cluster.insert(10)
    cluster.in_call()
    assert worker.terminate() == 0
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0
    assert len(cluster.synced.vectors()) == 10
    cluster.synced.exact()
    assert "Traceback" not in worker.printed


def test_ctrl_c_ends_a_worker_and_leaves_no_lease(cluster: Cluster) -> None:
    cluster.synced.endpoint.latency = 1.0
    worker = cluster.worker(concurrency=2)
    cluster.insert(10)
    cluster.in_call()
    worker.interrupt()
    worker.wait()
    assert cluster.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0
    cluster.synced.covered()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_postgres_that_crashes_and_comes_back_loses_nothing(cluster: Cluster, pool: str) -> None:
    cluster.synced.declare(batch_size=10)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.2
    worker = cluster.worker(pool, **SHORT)
    cluster.insert(200)
    cluster.in_call()
    cluster.synced.database.server.restart()
    cluster.synced.covered()
    cluster.settles(60)
    assert worker.exit_code is None


def test_a_pipeline_removed_under_a_running_worker_disturbs_no_other(cluster: Cluster) -> None:
    cluster.synced.endpoint.latency = 0.3
    worker = cluster.worker()
    cluster.insert(50)
    cluster.in_call()
    cluster.synced.remove()
    cluster.synced.pipeline()
    cluster.settles()
    assert worker.exit_code is None
