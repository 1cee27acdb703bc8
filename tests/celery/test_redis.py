"""Redis is expendable, and its queues never grow: messages are doorbells without state."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from cluster import READY, Cluster
from pgvector_sync.doorbell import EMBED_BATCH, RUN, TICK
from processes import Process
from waiting import eventually, never

BEAT = """
from pgvector_sync.celery_app import app

app.conf.beat_schedule["tick"]["schedule"] = 0.2
app.start(["beat"])
"""

IMPATIENT_WORKER = """
from datetime import timedelta
import pgvector_sync.doorbell

pgvector_sync.doorbell.BELL_LIFE = timedelta(seconds=0.2)
from pgvector_sync.cli import main

main(["worker", "--concurrency", "1"])
"""


@contextmanager
def rung(cluster: Cluster) -> Iterator[list[dict[str, Any]]]:
    """Every message that anybody puts into a queue meanwhile."""
    messages: list[dict[str, Any]] = []
    client = redis.Redis.from_url(cluster.valkey.url)
    with client.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                name, _, rest = command["command"].partition(" ")
                if name == "LPUSH" and '"task"' in rest.encode().decode("unicode_escape"):
                    messages.append(json.loads(rest.partition(" ")[2].encode().decode("unicode_escape")))
                if "the end" in rest:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        yield messages
        client.echo("the end")
        thread.join(10)
    client.close()


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def test_messages_are_json_and_hold_names_and_numbers_only(cluster: Cluster) -> None:
    with rung(cluster) as messages:
        cluster.worker()
        cluster.processes.python(BEAT)
        cluster.insert(20)
        cluster.settles()
        cluster.synced.declare(where="id > 0")
        cluster.synced.apply()
        cluster.settles()
        eventually(lambda: {message["headers"]["task"] for message in messages} == {EMBED_BATCH, RUN, TICK})
    allowed = {EMBED_BATCH: {("docs", lane, slot) for lane in ("live", "bulk") for slot in range(8)}}
    for message in messages:
        assert message["content-type"] == "application/json"
        arguments, keywords, _ = body_of(message)
        assert keywords == {}
        match message["headers"]["task"]:
            case name if name == EMBED_BATCH:
                assert tuple(arguments) in allowed[name]
            case name if name == RUN:
                assert [type(argument) for argument in arguments] == [int]
            case _:
                assert arguments == []
        assert message["headers"]["expires"]
        assert "text" not in json.dumps([message["headers"].get("argsrepr"), arguments])


def test_flushing_redis_all_the_time_loses_nothing(cluster: Cluster) -> None:
    cluster.synced.declare(batch_size=20)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.1
    cluster.worker()
    stop = threading.Event()

    def flush() -> None:
        with redis.Redis.from_url(cluster.valkey.url) as client:
            while not stop.wait(0.3):
                client.flushall()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        for start in range(1, 401, 100):
            cluster.insert(100, start=start)
            cluster.synced.covered()
        eventually(lambda: len(cluster.synced.vectors()) > 100, 30)
    finally:
        stop.set()
        thread.join()
    cluster.settles()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_valkey_that_is_killed_and_comes_back_loses_nothing(cluster: Cluster, pool: str) -> None:
    worker = cluster.worker(pool)
    cluster.insert(50)
    cluster.settles()
    cluster.valkey.kill()
    cluster.insert(50, start=51)
    cluster.synced.run("UPDATE docs SET body = 'changed' WHERE id <= 5", "DELETE FROM docs WHERE id = 6")
    worker.wait_for("redis_unavailable")
    cluster.synced.covered()
    cluster.valkey.start()
    cluster.settles(60)
    assert worker.terminate() == 0


def test_while_no_worker_runs_the_beat_leaves_one_message(cluster: Cluster) -> None:
    beat = cluster.processes.python(BEAT)
    cluster.insert(10)
    eventually(lambda: cluster.lengths()["maintenance"] == 1, 20)
    never(lambda: max(cluster.lengths().values()) > 1, 2.0)
    assert beat.terminate() == 0
    cluster.worker()
    cluster.settles()
    assert cluster.lengths() == {"live": 0, "bulk": 0, "maintenance": 0}


def test_while_every_child_is_stuck_the_queues_dont_grow(cluster: Cluster) -> None:
    cluster.synced.declare(batch_size=5)
    cluster.synced.apply()
    cluster.synced.endpoint.fail("hang", seconds=20)
    cluster.insert(500)
    cluster.processes.python(IMPATIENT_WORKER).wait_for(READY)
    cluster.processes.python(BEAT)
    cluster.in_call()
    never(lambda: cluster.lengths()["live"] > 8 or cluster.lengths()["maintenance"] > 1, 3.0)
    cluster.synced.endpoint.heal()
    cluster.settles(60)


def tick_of(cluster: Cluster) -> Any:
    return cluster.synced.database.execute("SELECT last_at FROM pgvector_sync.tick")


def test_two_beats_are_one_in_effect(cluster: Cluster) -> None:
    with rung(cluster) as messages:
        cluster.worker()
        beats: list[Process] = [cluster.processes.python(BEAT), cluster.processes.python(BEAT)]
        first = eventually(lambda: tick_of(cluster), 20)
        already = len(messages)
        eventually(lambda: len(messages) >= already + 8, 20)
        assert tick_of(cluster) == first
        assert all(beat.terminate() == 0 for beat in beats)


@pytest.mark.slow
def test_without_a_relay_the_beat_still_rings(cluster: Cluster) -> None:
    with redis.Redis.from_url(cluster.valkey.url) as client:
        worker = cluster.worker()
        worker.wait_for("relay_elected")
        [lock] = client.keys("*:relay")
        client.set(lock, "a relay that does nothing", ex=300)
        worker.wait_for("relay_lost")
        cluster.processes.python(BEAT)
        cluster.insert(10)
        cluster.settles(60)
        assert client.get(lock) == b"a relay that does nothing"
