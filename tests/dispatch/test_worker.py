"""Workers with both pools, and the election of the relay."""

from __future__ import annotations

import sys

import psutil
import pytest
import redis

from pgvector_sync.dispatch.slots import Slots
from pgvector_sync.settings import Settings
from support.cluster import CELERY, READY, Cluster, children
from support.processes import Process
from support.waiting import eventually, never


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_change_becomes_a_vector(cluster: Cluster, pool: str) -> None:
    worker = cluster.worker(pool)
    cluster.insert(100)
    cluster.settles()
    cluster.synced.run(
        "UPDATE docs SET body = body || ' changed' WHERE id <= 10", "DELETE FROM docs WHERE id > 90"
    )
    cluster.synced.run("UPDATE docs SET id = id + 1000 WHERE id > 80")
    cluster.settles()
    assert len(cluster.synced.vectors()) == 90
    assert worker.terminate() == 0
    assert "Traceback" not in worker.printed


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_celerys_own_command_works_as_well(cluster: Cluster, pool: str) -> None:
    worker = cluster.processes.start(*CELERY, "worker", "--pool", pool, "--concurrency", "2")
    worker.wait_for(READY)
    cluster.insert(20)
    cluster.settles()
    assert worker.terminate() == 0
    assert "Traceback" not in worker.printed


@pytest.mark.slow
def test_a_backfill_is_carried_out_by_the_worker(cluster: Cluster) -> None:
    cluster.synced.run("ALTER TABLE docs DISABLE TRIGGER USER")
    cluster.insert(1_500)
    cluster.synced.run("ALTER TABLE docs ENABLE TRIGGER USER")
    cluster.synced.declare(where="id > 0", batch_size=100)
    cluster.synced.apply()
    cluster.worker()
    cluster.settles()
    assert len(cluster.synced.vectors()) == 1_500


@pytest.mark.slow
def test_a_backlog_is_worked_on_by_all_children_at_once(cluster: Cluster) -> None:
    cluster.synced.declare(batch_size=5)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.3
    cluster.insert(100)
    cluster.worker(concurrency=4)
    leases = "SELECT count(DISTINCT lease) FROM pgvector_sync.work"
    eventually(lambda: cluster.synced.database.value(leases) == 4, what="four batches in flight")
    cluster.settles()


def elected(*workers: Process) -> list[Process]:
    """Return the workers whose last event says that they are the relay."""
    return [w for w in workers if w.printed.count("relay_elected") > w.printed.count("relay_lost")]


@pytest.mark.slow
def test_of_two_workers_exactly_one_is_the_relay_and_the_other_takes_over(cluster: Cluster) -> None:
    first, second = cluster.worker(), cluster.worker()
    [relay] = eventually(lambda: elected(first, second))
    never(lambda: len(elected(first, second)) != 1, 1.0)
    relay.kill()
    survivor = second if relay is first else first
    survivor.wait_for("relay_elected", timeout=10)
    cluster.insert(10)
    cluster.settles()


@pytest.mark.slow
def test_the_slots_of_two_workers_of_one_machine_are_added_up(cluster: Cluster) -> None:
    first, second = cluster.worker(concurrency=2), cluster.worker(concurrency=2)
    namespace = Settings(_env_file=None, DATABASE_URL=cluster.processes.env["DATABASE_URL"]).namespace()
    with redis.Redis.from_url(cluster.valkey.url) as client:
        slots = Slots(client, namespace)
        eventually(lambda: slots.total() == 4, what="both are counted")
        assert second.terminate() == 0
        eventually(lambda: slots.total() == 2, what="one has left")
    assert first.terminate() == 0


@pytest.mark.slow
def test_a_relay_that_stops_cleanly_hands_over_at_once(cluster: Cluster) -> None:
    first = cluster.worker()
    first.wait_for("relay_elected")
    second = cluster.worker()
    assert first.terminate() == 0
    second.wait_for("relay_elected", timeout=2)


@pytest.mark.slow
def test_pools_are_opened_after_the_fork(cluster: Cluster) -> None:
    worker = cluster.worker(concurrency=2)
    cluster.insert(10)
    cluster.settles()
    ports = [
        {c.laddr.port for c in process.net_connections(kind="tcp") if c.raddr}
        for process in [psutil.Process(worker.pid), *children(worker)]
    ]
    assert len(ports) > 2
    shared = ports[0] & set().union(*ports[1:])
    database = cluster.synced.database.execute(
        "SELECT client_port FROM pg_stat_activity WHERE application_name = 'pgvector-sync'"
    )
    assert shared.isdisjoint({port for (port,) in database})


OURS = (sys.executable, "-m", "pgvector_sync")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ((*OURS, "worker"), "REDIS_URL"),
        pytest.param((*OURS, "worker"), "DATABASE_URL", marks=pytest.mark.slow),
        pytest.param((*OURS, "beat"), "REDIS_URL", marks=pytest.mark.slow),
        ((*OURS, "beat"), "DATABASE_URL"),
        pytest.param((*CELERY, "worker"), "REDIS_URL", marks=pytest.mark.slow),
        pytest.param((*CELERY, "worker"), "DATABASE_URL", marks=pytest.mark.slow),
        pytest.param((*CELERY, "beat"), "REDIS_URL", marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, tuple) else value,
)
def test_a_worker_without_a_required_setting_says_so_and_ends(
    cluster: Cluster, command: tuple[str, ...], missing: str
) -> None:
    del cluster.processes.env[missing]
    process = cluster.processes.start(*command)
    assert process.wait() == 2
    assert missing in process.printed
    assert f"export {missing}=" in process.printed
    assert "Traceback" not in process.printed
