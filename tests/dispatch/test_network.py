"""A bad network between a worker and its servers, and servers that reject it: nothing is lost, and work continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.cluster import Cluster
from support.proxy import Proxy
from support.waiting import eventually

SHORT = {
    "PGVECTOR_SYNC_LEASE": "2",
    "PGVECTOR_SYNC_DEADLINE": "2",
    "PGVECTOR_SYNC_BACKOFF_FIRST": "0.2",
    "PGVECTOR_SYNC_BACKOFF_LONGEST": "1",
    "PGVECTOR_SYNC_PROVIDER_TIMEOUT": "0.6",
}
PATIENT = SHORT | {"PGVECTOR_SYNC_LEASE": "30", "PGVECTOR_SYNC_DEADLINE": "25"}
POOLS = pytest.mark.parametrize("pool", ["prefork", "threads"])

CLAIM = b"WITH due AS MATERIALIZED"
WRITE = b'INTO "public"."docs_embedding"'
COMMIT = b"COMMIT"


@pytest.fixture
def through() -> Iterator[Callable[[str], Proxy]]:
    """Makes a proxy to the server of a URL."""
    with ExitStack() as proxies:
        yield lambda url: proxies.enter_context(Proxy(url))


@pytest.fixture
def postgres_proxy(cluster: Cluster, through: Callable[[str], Proxy]) -> Proxy:
    """Between the processes of the test and Postgres."""
    proxy = through(cluster.synced.database.url)
    cluster.processes.env["DATABASE_URL"] = proxy.url
    return proxy


@pytest.fixture
def valkey_proxy(cluster: Cluster, through: Callable[[str], Proxy]) -> Proxy:
    proxy = through(cluster.valkey.url)
    cluster.processes.env["REDIS_URL"] = proxy.url
    return proxy


@pytest.fixture
def endpoint_proxy(cluster: Cluster, through: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch) -> Proxy:
    endpoint = cluster.synced.endpoint
    proxy = through(endpoint.base_url)
    monkeypatch.setattr(endpoint, "base_url", proxy.url)
    cluster.synced.apply()
    return proxy


def settles_without_losing_attempts(cluster: Cluster, *, most: int = 1, timeout: float = 60) -> None:
    """Check that all work is done automatically, with no row tried more often than this."""
    assert cluster.settles(timeout) <= most
    assert cluster.synced.dead() == []


# -- Postgres ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "forward"),
    [
        pytest.param((WRITE, COMMIT), True, id="the commit of a write arrives, its answer doesn't"),
        *[
            pytest.param(words, forward, id=name, marks=pytest.mark.slow)
            for name, words, forward in [
                ("the commit of a write doesn't arrive", (WRITE, COMMIT), False),
                ("between a write and its ack", (WRITE,), True),
                ("the commit of a claim arrives, its answer doesn't", (CLAIM, COMMIT), True),
                ("the commit of a claim doesn't arrive", (CLAIM, COMMIT), False),
            ]
        ],
    ],
)
def test_a_connection_that_is_cut_there_loses_nothing(
    cluster: Cluster, postgres_proxy: Proxy, words: tuple[bytes, ...], forward: bool
) -> None:
    worker = cluster.worker("threads", **SHORT)
    cut = postgres_proxy.cut_at(*words, forward=forward)
    cluster.insert(40)
    eventually(cut.is_set, 20, what="the connection is cut")
    # a claim of which nobody knows has to run out
    settles_without_losing_attempts(cluster, most=2 if words == (CLAIM, COMMIT) and forward else 1)
    assert worker.exit_code is None


@pytest.mark.slow
@pytest.mark.parametrize("forward", [True, False])
@POOLS
def test_a_connection_that_falls_silent_in_mid_commit_is_given_up(
    cluster: Cluster, postgres_proxy: Proxy, pool: str, forward: bool
) -> None:
    worker = cluster.worker(pool, concurrency=1, **SHORT)
    silent = postgres_proxy.cut_at(WRITE, COMMIT, forward=forward, mute=True)
    cluster.insert(40)
    eventually(silent.is_set, 20, what="the connection is silent")
    settles_without_losing_attempts(cluster, most=2)
    assert worker.exit_code is None


@pytest.mark.slow
@POOLS
def test_a_worker_reconnects_to_a_postgres_that_was_silent_for_longer_than_every_timeout(
    cluster: Cluster, postgres_proxy: Proxy, pool: str
) -> None:
    cluster.synced.endpoint.latency = 0.3
    worker = cluster.worker(pool, **SHORT)
    cluster.insert(40)
    cluster.in_call()
    postgres_proxy.mute()
    cluster.insert(40, start=100)
    worker.wait_for("database_unavailable", 60)
    cluster.synced.covered()
    postgres_proxy.heal()
    settles_without_losing_attempts(cluster, most=2)
    assert worker.exit_code is None


def only_costs_time(cluster: Cluster, pool: str, harm: Callable[[], object], *, what: str) -> None:
    """Does harm after every 40 of 400 rows; `harm` is repeated until it says that it did any."""
    cluster.synced.declare(batch_size=10)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.1
    cluster.worker(pool, **SHORT)
    for start in range(1, 401, 40):
        cluster.insert(40, start=start)
        cluster.synced.covered()
        eventually(harm, what=what)
    settles_without_losing_attempts(cluster, most=3)


@pytest.mark.slow
@POOLS
def test_connections_that_are_cut_again_and_again_only_cost_time(
    cluster: Cluster, postgres_proxy: Proxy, pool: str
) -> None:
    only_costs_time(cluster, pool, postgres_proxy.cut, what="there was a connection to cut")


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0.02, 0.05])
def test_a_distant_postgres_is_only_slower(cluster: Cluster, postgres_proxy: Proxy, latency: float) -> None:
    postgres_proxy.latency = latency
    cluster.worker("threads")
    cluster.insert(300)
    settles_without_losing_attempts(cluster)


@pytest.mark.slow
@POOLS
def test_backends_that_are_terminated_again_and_again_only_cost_time(cluster: Cluster, pool: str) -> None:
    only_costs_time(cluster, pool, lambda: terminate_backends(cluster), what="there was a backend to terminate")


def terminate_backends(cluster: Cluster) -> int:
    """End our connections, including those of the test; return how many."""
    return len(
        cluster.synced.database.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'pgvector-sync' AND datname = current_database()"
        )
    )


@pytest.mark.slow
@POOLS
def test_a_postgres_that_is_read_only_for_a_while_is_waited_for(cluster: Cluster, pool: str) -> None:
    """As a standby after a fail-over is, or a managed one whose disk is full."""
    cluster.synced.endpoint.latency = 0.5
    worker = cluster.worker(pool, **PATIENT)
    cluster.insert(40)
    cluster.in_call()
    name = cluster.synced.database.name
    cluster.synced.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    terminate_backends(cluster)
    worker.wait_for("database_unavailable.*25006")
    cluster.synced.covered()
    # no connection is ended: those that were made meanwhile stay read-only for as long as they live
    cluster.synced.run(f"BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT")
    paid = cluster.synced.paid()
    settles_without_losing_attempts(cluster)
    assert cluster.synced.paid() == paid, "vectors that could not be written were kept"
    assert worker.exit_code is None


# -- Valkey ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@POOLS
def test_a_worker_reconnects_to_a_redis_that_was_silent(cluster: Cluster, valkey_proxy: Proxy, pool: str) -> None:
    worker = cluster.worker(pool, **SHORT)
    cluster.insert(20)
    cluster.settles()
    valkey_proxy.mute()
    cluster.insert(20, start=100)
    worker.wait_for("redis_unavailable", 60)
    cluster.synced.covered()
    valkey_proxy.heal()
    settles_without_losing_attempts(cluster, timeout=90)
    assert worker.exit_code is None


@pytest.mark.slow
@POOLS
def test_a_worker_reconnects_to_a_redis_whose_connections_were_cut_and_refused(
    cluster: Cluster, valkey_proxy: Proxy, pool: str
) -> None:
    worker = cluster.worker(pool, **SHORT)
    for start in (1, 100, 200):
        cluster.insert(20, start=start)
        valkey_proxy.cut()
    valkey_proxy.refuse()
    cluster.insert(20, start=300)
    worker.wait_for("redis_unavailable", 60)
    valkey_proxy.heal()
    settles_without_losing_attempts(cluster, timeout=90)
    assert worker.exit_code is None


@pytest.mark.slow
@POOLS
def test_a_redis_killed_while_batches_are_in_flight_ends_no_worker(cluster: Cluster, pool: str) -> None:
    cluster.synced.endpoint.latency = 0.3
    worker = cluster.worker(pool)
    for start in (1, 100, 200):
        calls = cluster.calls()
        cluster.insert(20, start=start)
        cluster.in_call(calls)
        cluster.valkey.kill()
        cluster.valkey.start()
        cluster.insert(20, start=start + 50)
        settles_without_losing_attempts(cluster)
    assert worker.exit_code is None


# -- the provider ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cut", "mute", "refuse"])
def test_an_unreachable_provider_costs_no_attempt(cluster: Cluster, endpoint_proxy: Proxy, what: str) -> None:
    cluster.synced.endpoint.latency = 0.3
    cluster.worker("threads", **SHORT)
    cluster.insert(40)
    cluster.in_call()
    getattr(endpoint_proxy, what)()
    cluster.insert(40, start=100)
    if what != "cut":
        eventually(
            lambda: cluster.synced.database.value("SELECT state FROM pgvector_sync.pipeline") == "cooling_down", 30
        )
    cluster.synced.covered()
    endpoint_proxy.heal()
    settles_without_losing_attempts(cluster)
