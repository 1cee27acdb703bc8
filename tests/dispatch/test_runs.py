"""Runs by workers and beat: re-embeds, reconciliations and scheduled runs."""

from __future__ import annotations

import os
import signal

import pytest

from pgvector_sync.model.request import Reembed
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support.cluster import CELERY, Cluster
from support.waiting import eventually

pytestmark = pytest.mark.slow


def ended(cluster: Cluster, run_id: int) -> bool:
    state = "SELECT state FROM pgvector_sync.run WHERE id = %s"
    return bool(cluster.synced.database.value(state, run_id) == "finished")


def test_a_re_embed_and_a_reconciliation_are_carried_out_and_survive_a_kill(cluster: Cluster) -> None:
    cluster.insert(3_000)
    cluster.synced.settle()
    cluster.synced.endpoint.latency = 0.05
    paid = cluster.synced.paid()
    first = cluster.worker(PGVECTOR_SYNC_LEASE="2")
    database = cluster.synced.runtime.database
    run_id = request_reembed(database, "docs", Reembed(force=True)).run_id
    eventually(lambda: cluster.synced.paid() > paid + 500, 20)
    os.killpg(first.pid, signal.SIGKILL)
    cluster.worker(PGVECTOR_SYNC_LEASE="2")
    eventually(lambda: ended(cluster, run_id), 30)
    assert paid + 3_000 <= cluster.synced.paid() <= paid + 3_000 + 3 * 512, "only what was in flight is paid twice"
    cluster.synced.run("SET session_replication_role = replica; DELETE FROM docs WHERE id <= 100")
    run_id = request_reconcile(database, "docs").run_id
    eventually(lambda: ended(cluster, run_id), 30)
    cluster.settles()


def test_a_reconciliation_does_not_wait_until_a_backlog_that_keeps_all_slots_busy_is_done(
    cluster: Cluster,
) -> None:
    cluster.insert(3_000)
    cluster.synced.settle()
    cluster.synced.endpoint.latency = 0.2
    paid = cluster.synced.paid()
    cluster.worker(concurrency=2, PGVECTOR_SYNC_BULK_BATCH_SIZE="20")
    database = cluster.synced.runtime.database
    request_reembed(database, "docs", Reembed(force=True))
    eventually(lambda: cluster.synced.paid() > paid + 100, 20)
    run_id = request_reconcile(database, "docs").run_id
    eventually(lambda: ended(cluster, run_id), 30)
    assert cluster.synced.paid() < paid + 2_000, "most of the backlog still waits"


def test_beat_starts_the_runs_that_are_due(cluster: Cluster) -> None:
    cluster.insert(10)
    cluster.synced.settle()
    cluster.synced.run(
        "UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '2 days'",
        "DELETE FROM pgvector_sync.tick",
        "SET session_replication_role = replica; UPDATE docs_embedding SET model = 'older' WHERE id = 3",
    )
    cluster.worker()
    for _ in range(2):
        cluster.processes.command("beat")
    drift = "SELECT wrong_model FROM pgvector_sync.drift"
    eventually(lambda: cluster.synced.database.execute(drift), 40)
    assert cluster.synced.database.execute(drift) == [(1,)]
    cluster.settles()


def test_a_schedule_of_the_users_own_requests_a_re_embed_by_name(cluster: Cluster) -> None:
    cluster.insert(10)
    cluster.synced.settle()
    cluster.worker()
    call = cluster.processes.start(
        *CELERY, "call", "pgvector_sync.reembed", "--args", '["docs"]', "--queue", "maintenance"
    )
    assert call.wait() == 0
    seen = "SELECT rows_seen FROM pgvector_sync.run WHERE kind = 'reembed' AND state = 'finished'"
    assert eventually(lambda: cluster.synced.database.execute(seen), 20) == [(10,)]
