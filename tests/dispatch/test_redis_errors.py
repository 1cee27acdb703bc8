"""No reply of Redis ends a worker or a beat. A permanent problem is reported at the start, in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import redis

from support.cluster import CELERY, Cluster
from support.processes import COMMAND, Process
from support.waiting import eventually

BEAT = """
from pgvector_sync.celery_app import app

app.finalize()
app.conf.beat_schedule["pgvector_sync.tick"]["schedule"] = 0.2
raise SystemExit(app.start(["beat"]))
"""


@pytest.fixture
def client(cluster: Cluster) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(cluster.valkey.url) as client:
        yield client
        with suppress(redis.RedisError):
            client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.config_set("maxclients", 1000)


def demoted(client: redis.Redis) -> Callable[[], object]:
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("NO", "ONE")


def out_of_memory(client: redis.Redis) -> Callable[[], object]:
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def without_the_right(client: redis.Redis) -> Callable[[], object]:
    client.acl_setuser("default", enabled=True, commands=["-@write"])
    client.client_kill_filter(_type="normal", skipme=True)
    return lambda: client.acl_setuser("default", enabled=True, commands=["+@all"])


def another_type(client: redis.Redis) -> Callable[[], object]:
    """Another program has stored a hash in place of a queue."""
    client.delete("live", "maintenance")
    client.hset("live", "a", "b")
    client.hset("maintenance", "a", "b")
    return lambda: client.delete("live", "maintenance")


def password_changed(client: redis.Redis) -> Callable[[], object]:
    before = client.config_get("requirepass")["requirepass"]  # type: ignore[index]
    client.config_set("requirepass", "another")
    client.client_kill_filter(_type="normal", skipme=True)
    return lambda: client.config_set("requirepass", before)


def emptied(client: redis.Redis) -> Callable[[], object]:
    client.flushall()
    client.client_kill_filter(_type="normal", skipme=True)
    client.client_kill_filter(_type="pubsub", skipme=True)
    return lambda: None


FAULTS = [demoted, out_of_memory, without_the_right, another_type, password_changed, emptied]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_and_a_beat_survive_every_reply_of_redis(
    cluster: Cluster, client: redis.Redis, pool: str, fault: Callable[[redis.Redis], Callable[[], object]]
) -> None:
    worker = cluster.worker(pool)
    beat = cluster.processes.python(BEAT)
    cluster.insert(20)
    cluster.settles()
    heal = fault(client)
    cluster.insert(20, start=101)
    time.sleep(4)  # noqa: TID251  # so long it lasts
    heal()
    cluster.settles(40)
    assert (worker.exit_code, beat.exit_code) == (None, None)
    tick = "SELECT last_at FROM pgvector_sync.tick WHERE name = 'tick'"
    before = cluster.synced.database.execute(tick)
    eventually(lambda: cluster.synced.database.execute(tick) != before, 40, what="beat's ticks are taken again")
    assert worker.printed.count("\n") < 1_000, "it says so, and doesn't flood the log"
    assert (worker.terminate(), beat.terminate()) == (0, 0)


@pytest.mark.slow
def test_a_worker_survives_a_redis_that_is_demoted_for_a_moment(cluster: Cluster, client: redis.Redis) -> None:
    worker = cluster.worker()
    heal = demoted(client)
    worker.wait_for("read only replica")
    heal()
    cluster.insert(20)
    cluster.settles()
    assert worker.exit_code is None


WRONG = [
    ("127.0.0.1:6379", "use redis://127.0.0.1:6379"),
    ("localhost", "expected redis://user:password@host:6379/0"),
    ("memcached://127.0.0.1:6379/0", "unsupported scheme memcached://"),
    ("redis://127.0.0.1:port/0", "not a Redis URL"),
    ("sentinel://127.0.0.1:1/0?master=x", "unknown parameter master"),
]


def ends(process: Process) -> tuple[int, int]:
    """Return the exit code and the number of lines printed."""
    code = process.wait()
    return code, len(process.printed.strip().splitlines())


@pytest.mark.parametrize("name", ["worker", pytest.param("beat", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param(*case, id=case[0], marks=[] if number < 2 else pytest.mark.slow)
        for number, case in enumerate(WRONG)
    ],
)
def test_an_invalid_address_is_refused_in_one_line(cluster: Cluster, name: str, url: str, says: str) -> None:
    process = cluster.processes.command(name, REDIS_URL=url)
    assert ends(process) == (2, 2)
    assert "REDIS_URL" in process.printed
    assert says in process.printed


@pytest.mark.parametrize(
    "command",
    [
        (*COMMAND, "worker"),
        *(pytest.param(slow, marks=pytest.mark.slow) for slow in ((*COMMAND, "beat"), (*CELERY, "worker"))),
    ],
    ids=" ".join,
)
def test_a_wrong_password_is_refused_at_the_start(cluster: Cluster, command: tuple[str, ...]) -> None:
    host, _, rest = cluster.valkey.url.rpartition("@")[2].partition(":")
    process = cluster.processes.start(*command, REDIS_URL=f"redis://:wrong@{host}:{rest}")
    assert process.wait() == 2
    assert "rejected the password" in process.printed
    assert "Traceback" not in process.printed
    assert "wrong" not in process.printed


def test_an_unknown_kind_of_broker_is_refused(cluster: Cluster) -> None:
    process = cluster.processes.command("worker", CELERY_BROKER_URL="carrier-pigeon://127.0.0.1/0")
    assert ends(process) == (2, 2)
    assert "CELERY_BROKER_URL" in process.printed


@pytest.mark.parametrize("name", ["worker", pytest.param("beat", marks=pytest.mark.slow)])
def test_a_database_that_is_away_at_the_start_ends_it_with_a_line(cluster: Cluster, name: str) -> None:
    process = cluster.processes.command(name, DATABASE_URL="postgresql://127.0.0.1:1/app")
    assert ends(process) == (1, 2)


@pytest.mark.slow
def test_a_redis_that_is_away_at_the_start_is_waited_for(cluster: Cluster) -> None:
    cluster.valkey.kill()
    worker = cluster.processes.command("worker", "--concurrency", "1")
    worker.wait_for("redis_unavailable|Cannot connect")
    cluster.valkey.start()
    cluster.insert(5)
    cluster.settles()
    assert worker.terminate() == 0
