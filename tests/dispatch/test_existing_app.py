"""An application's Celery app with queues, routes, results and a schedule of its own, and our tasks in or beside it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pgvector_sync.runtime.bootstrap import Embedders
from support.cluster import Cluster, open_cluster
from support.endpoint import Endpoint
from support.processes import Process, Processes
from support.servers import Database, Postgres, Valkey, new_database
from support.waiting import eventually, never

CELERY = (sys.executable, "-m", "celery", "-A", "storefront")
OURS = ("live", "bulk", "maintenance")
CALL = """
import sys
from storefront import app
print("returned", app.send_task(sys.argv[1], [eval(sys.argv[2])]).get(timeout=30))
"""
pytestmark = pytest.mark.slow


def installed(cluster: Cluster, environment: str = "production") -> Cluster:
    """Puts the application into the folder of the processes."""
    shutil.copy(Path(__file__).with_name("storefront.py"), cluster.processes.folder)
    cluster.processes.env |= {
        "STOREFRONT_REDIS": cluster.valkey.url,
        "STOREFRONT_ENVIRONMENT": environment,
        "C_FORCE_ROOT": "1",
    }
    return cluster


@pytest.fixture
def storefront(cluster: Cluster) -> Cluster:
    return installed(cluster)


@pytest.fixture
def staging(
    postgres: Postgres,
    template: Database,
    valkey: Valkey,
    cluster: Cluster,
    shared: tuple[Endpoint, Embedders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """Another environment: its own database and processes, the same Redis database as `cluster`."""
    folder = tmp_path / "staging"
    folder.mkdir()
    processes = Processes(folder, {})
    with (
        new_database(postgres, template=template.name) as database,
        open_cluster(database, valkey, processes, shared, monkeypatch) as another,
    ):
        yield another
        processes.end()


def worker(cluster: Cluster, *options: str) -> Process:
    process = cluster.processes.start(*CELERY, "worker", "-l", "INFO", "-c", "2", *options)
    process.wait_for(r"celery@.* ready\.|\w+@.* ready\.")
    return process


def queues(prefix: str, *names: str) -> tuple[str, ...]:
    """The options of a worker that serves only these of our queues."""
    return "-Q", ",".join(f"{prefix}{name}" for name in names or OURS)


def result_of(cluster: Cluster, task: str, argument: object) -> str:
    call = cluster.processes.python(CALL, task, repr(argument), PYTHONPATH=str(cluster.processes.folder))
    assert call.wait(60) == 0
    return call.printed.partition("returned ")[2].strip()


def lists(cluster: Cluster) -> dict[str, int]:
    """The length of each list in Redis: the queues that aren't empty."""
    with redis.Redis.from_url(cluster.valkey.url, decode_responses=True) as client:
        found: Any = client.scan_iter(_type="list")
        return {name: int(client.llen(name)) for name in found}  # type: ignore[arg-type]


def names_of_results(cluster: Cluster) -> list[str]:
    with redis.Redis.from_url(cluster.valkey.url, decode_responses=True) as client:
        return list(client.scan_iter("celery-task-meta-*"))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_its_workers_serve_both_whatever_its_routes_serializer_and_clock_are(
    storefront: Cluster, pool: str
) -> None:
    process = worker(storefront, "--pool", pool)
    beat = storefront.processes.start(*CELERY, "beat", "-l", "INFO")
    storefront.insert(100)
    storefront.settles()
    assert result_of(storefront, "storefront.orders.total", {3, 4}) == "7"
    assert result_of(storefront, "storefront.mail.send", "ann") == "sent to ann"
    process.wait_for("counted the stock")
    ticks = "SELECT count(*) FROM pgvector_sync.tick WHERE name = 'tick'"
    eventually(lambda: storefront.synced.database.value(ticks) == 1, 30, what="the beat's tick is taken")
    assert len(names_of_results(storefront)) == process.printed.count("succeeded in") - ours_of(process)
    assert (process.terminate(), beat.terminate()) == (0, 0)
    assert "relay_failed" not in process.printed
    assert "Traceback" not in process.printed


def ours_of(process: Process) -> int:
    return sum("succeeded in" in line and "pgvector_sync." in line for line in process.printed.splitlines())


def test_a_worker_of_its_own_for_our_queues_is_not_held_up_by_the_applications_tasks(storefront: Cluster) -> None:
    theirs = worker(storefront, "-Q", "orders,mail", "-n", "theirs@%h")
    ours = worker(storefront, *queues("production.embed."), "-n", "ours@%h")
    gate = storefront.processes.folder / "gate"
    for _ in range(4):
        assert (
            storefront.processes.python(
                "import sys; from storefront import wait_for; wait_for.delay(sys.argv[1])",
                str(gate),
                PYTHONPATH=str(storefront.processes.folder),
            ).wait()
            == 0
        )
    eventually(lambda: theirs.printed.count("storefront.orders.wait_for") >= 2, 20, what="its slots are taken")
    storefront.insert(100)
    storefront.settles()
    gate.touch()
    eventually(lambda: theirs.printed.count("succeeded in") == 4, 20)
    assert "Task pgvector_sync" not in theirs.printed
    assert "storefront.orders" not in "".join(line for line in ours.printed.splitlines() if "received" in line)
    assert (theirs.terminate(), ours.terminate()) == (0, 0)


def test_our_own_worker_runs_beside_it_on_the_same_redis(storefront: Cluster) -> None:
    theirs = worker(storefront, "-Q", "orders,mail", "-n", "theirs@%h")
    beside = storefront.worker(PGVECTOR_SYNC_REDIS_PREFIX="embed:")
    storefront.insert(50)
    storefront.settles()
    assert result_of(storefront, "storefront.orders.total", {3, 4}) == "7"
    assert (theirs.terminate(), beside.terminate()) == (0, 0)
    assert "Traceback" not in theirs.printed + beside.printed


def test_two_environments_of_the_application_on_one_redis_have_their_own_doorbells(
    storefront: Cluster, staging: Cluster
) -> None:
    installed(staging, "staging")
    production = worker(storefront, "-n", "production@%h")
    production.wait_for("relay_elected")
    relay = worker(staging, *queues("staging.embed.", "maintenance"), "-n", "staging@%h")
    relay.wait_for("relay_elected")  # the other environment's relay doesn't hold its lock
    _only_its_own_worker_hears(storefront, staging, "staging.embed.live")
    full = worker(staging, "-n", "staging2@%h")
    staging.settles()
    _flushing_hurts_neither(storefront, staging)
    assert [process.terminate() for process in (production, relay, full)] == [0, 0, 0]


def test_two_deployments_of_ours_with_prefixes_on_one_redis_have_their_own_doorbells(
    cluster: Cluster, staging: Cluster
) -> None:
    cluster.processes.env["PGVECTOR_SYNC_REDIS_PREFIX"] = "production:"
    staging.processes.env["PGVECTOR_SYNC_REDIS_PREFIX"] = "staging:"
    production = cluster.worker()
    relay = staging.processes.command("worker", "--queues", "maintenance", "--concurrency", "1")
    relay.wait_for("relay_elected")
    _only_its_own_worker_hears(cluster, staging, "staging:live")
    full = staging.worker()
    staging.settles()
    _flushing_hurts_neither(cluster, staging)
    assert [process.terminate() for process in (production, relay, full)] == [0, 0, 0]


def _only_its_own_worker_hears(production: Cluster, staging: Cluster, queue: str) -> None:
    """Staging has a relay, which rings, and no worker for its rows. Production has both."""
    staging.insert(10)
    eventually(lambda: lists(staging).get(queue), 20, what="staging's doorbell rings")
    production.insert(50)
    production.settles()
    never(lambda: not lists(staging).get(queue), 1.0, what="production's worker has taken staging's doorbell")
    assert not staging.synced.vectors()


def _flushing_hurts_neither(production: Cluster, staging: Cluster) -> None:
    for start in (101, 201):
        with redis.Redis.from_url(production.valkey.url) as client:
            client.flushdb()
        for cluster in (production, staging):
            cluster.insert(50, start=start)
        for cluster in (production, staging):
            cluster.settles()


def test_an_app_that_accepts_no_json_is_refused_with_what_to_change(storefront: Cluster) -> None:
    process = storefront.processes.start(
        *CELERY, "worker", "-c", "1", STOREFRONT_SETTINGS="{'accept_content': ['pickle']}"
    )
    assert process.wait() == 2
    assert "accept_content" in process.printed
    assert "Traceback" not in process.printed
