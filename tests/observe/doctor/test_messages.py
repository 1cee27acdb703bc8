"""Redis, the broker, and whether workers and beat are running."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis as redis_client

from pgvector_sync.observe.doctor import Check
from pgvector_sync.observe.status import read_status, read_workers
from pgvector_sync.observe.todo import of_workers
from pgvector_sync.settings import Settings
from support.examined import errors, look, the
from support.processes import Processes
from support.servers import Valkey
from support.synced import Synced
from support.waiting import eventually


def test_a_stopped_valkey(docs: Synced, redis_url: str, valkey: Valkey) -> None:
    valkey.stop()
    try:
        found = errors(look(docs.database.url, REDIS_URL=redis_url))
        assert {check.name for check in found} == {"redis", "relay"}
        assert "start Redis or Valkey" in (found[0].advice or "")
    finally:
        valkey.start()
    assert errors(look(docs.database.url, REDIS_URL=redis_url)) == []


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda url: url.replace(":", ":guess", 2).replace(":guess", ":", 1), "rejected the password"),
        (lambda _: "redis://:guess@127.0.0.1:1/0", "can't connect to"),
        (lambda _: "redis://:guess/secret@127.0.0.1/0", "not a Redis URL"),
        (lambda _: "guess", "not a Redis URL"),
    ],
)
def test_a_wrong_redis_url_shows_no_part_of_the_password(
    database_url: str, redis_url: str, change: Callable[[str], str], seen: str
) -> None:
    found = the("redis", look(database_url, REDIS_URL=change(redis_url)))
    assert (found.level, seen in found.seen) == ("error", True), found.seen
    assert "guess" not in found.seen + (found.advice or "")


def test_a_valkey_that_evicts_keys(database_url: str, redis_url: str) -> None:
    with redis_client.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = the("redis", look(database_url, REDIS_URL=redis_url))
            assert found.level == "warning"
            client.execute_command(*(found.advice or "").partition(" (")[0].split(" "))
            assert the("redis", look(database_url, REDIS_URL=redis_url)).level == "ok"
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_a_redis_database_shared_by_two_installations(
    database_url: str, bare_database_url: str, redis_url: str
) -> None:
    other = Settings(DATABASE_URL=bare_database_url, _env_file=None)
    with redis_client.Redis.from_url(redis_url) as client:
        client.set(f"{other.namespace()}:relay", "its relay")
    found = the("redis", look(database_url, REDIS_URL=redis_url))
    assert found.level == "warning"
    assert "REDIS_URL=redis://host:6379/1" in (found.advice or "")
    assert the("redis", look(database_url, REDIS_URL=redis_url.rsplit("/", 1)[0] + "/1")).level == "ok"


def test_another_broker(database_url: str, redis_url: str) -> None:
    def broker(url: str) -> Check:
        return the("broker", look(database_url, REDIS_URL=redis_url, CELERY_BROKER_URL=url))

    assert broker(redis_url).level == "ok"
    assert broker("amqp://user:secret@127.0.0.1:1//").seen.startswith("can't connect to 127.0.0.1:1")
    assert broker("sqs://").seen == "not checked: a broker of type sqs"


@pytest.mark.parametrize("ticked", [False, True])
def test_nothing_is_said_against_beat_while_no_worker_handles_its_ticks(
    docs: Synced, redis_url: str, ticked: bool
) -> None:
    if ticked:
        docs.run(
            "INSERT INTO pgvector_sync.tick (name, last_at) VALUES ('tick', statement_timestamp() - interval '5 minutes')"
            " ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at"
        )
    docs.run("DELETE FROM pgvector_sync.worker")
    found = the("beat", look(docs.database.url, REDIS_URL=redis_url))
    assert found.seen.startswith("unknown whether beat is running")
    assert "start a worker" in (found.advice or "")
    running = read_workers(docs.runtime.database)
    assert [check.name for check in of_workers(running, read_status(docs.runtime.database), redis=True)] == [
        "workers"
    ]


def test_a_worker_without_beat(docs: Synced, redis_url: str) -> None:
    docs.run(
        "INSERT INTO pgvector_sync.worker (id, name, slots, seen_at) VALUES (gen_random_uuid(), 'w', 1, statement_timestamp())"
    )
    assert the("beat", look(docs.database.url, REDIS_URL=redis_url)).advice == "start it: pgvector-sync beat"
    running = read_workers(docs.runtime.database)
    assert [check.name for check in of_workers(running, read_status(docs.runtime.database), redis=True)] == [
        "beat"
    ]


@pytest.mark.slow
def test_a_running_worker(docs: Synced, processes: Processes, redis_url: str) -> None:
    processes.env |= {"DATABASE_URL": docs.database.url, "REDIS_URL": redis_url}

    def level(name: str) -> str:
        return the(name, look(docs.database.url, REDIS_URL=redis_url)).level

    assert (level("relay"), level("beat")) == ("warning", "warning")
    processes.command("worker", "--pool", "threads")
    processes.command("beat")
    eventually(
        lambda: (level("relay"), level("beat")) == ("ok", "ok"), timeout=60, what="relay and beat are found"
    )
