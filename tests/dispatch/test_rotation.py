"""Keys and passwords are replaced under running workers, which wait, report it, and continue with the new ones."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from pgvector_sync.observe.status import read_status
from support.cluster import Cluster
from support.examined import look, the
from support.servers import Database, Valkey
from support.synced import role
from support.waiting import eventually


@pytest.mark.slow
def test_a_providers_key_that_was_replaced_stops_the_pipeline_until_a_worker_has_the_new_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = cluster.worker(concurrency=1)
    monkeypatch.setattr(cluster.synced.endpoint, "api_key", "another-key")
    cluster.insert(3)

    def refused() -> bool:
        [status] = read_status(cluster.synced.runtime.database)
        return "TEST_KEY" in (status.reason or "")

    eventually(refused, 20, what="the reason names the variable")
    assert worker.terminate() == 0
    cluster.worker(concurrency=1, TEST_KEY="another-key")
    cluster.settles()


@pytest.mark.slow
def test_a_database_password_that_was_replaced_is_waited_out_and_given_to_the_next_worker(
    cluster: Cluster,
) -> None:
    database = cluster.synced.database
    with role(database, "sync", "ALTER ROLE {role} SUPERUSER PASSWORD 'old'") as name:
        address = f"127.0.0.1:{database.server.port}/{database.name}"
        worker = cluster.worker(concurrency=1, DATABASE_URL=f"postgresql://{name}:old@{address}")
        database.execute(f"ALTER ROLE {name} PASSWORD 'new'")
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgvector-sync'"
        )
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://{name}:old@{address}")
        cluster.insert(3)
        worker.wait_for(r"database_unavailable")
        assert worker.exit_code is None
        cluster.worker(concurrency=1, DATABASE_URL=f"postgresql://{name}:new@{address}")
        cluster.settles()
        assert worker.terminate() == 0


def test_a_second_password_of_redis_is_valid_beside_the_first_one(
    database: Database, valkey: Valkey, redis_url: str
) -> None:
    """The procedure of docs/security.md: add a password, restart the processes with it, remove the old one."""
    old = str(urlsplit(redis_url).password)
    urls = {password: redis_url.replace(f":{old}@", f":{password}@") for password in (old, "the-next-one")}
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "default", ">the-next-one")
        try:
            found = [the("redis", look(database.url, REDIS_URL=url)).level for url in urls.values()]
        finally:
            client.execute_command("ACL", "SETUSER", "default", "<the-next-one")
    assert found == ["ok", "ok"]
    assert "rejected the password" in the("redis", look(database.url, REDIS_URL=urls["the-next-one"])).seen
