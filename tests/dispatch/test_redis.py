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

from pgvector_sync.dispatch.messages import EMBED_BATCH, RUN, TICK
from pgvector_sync.dispatch.relay import ELECTED_FOR
from support.cluster import READY, Cluster
from support.processes import Process
from support.waiting import eventually, never

IDLE_RELAY = b"a relay that does nothing"
BEAT = """
from pgvector_sync.celery_app import app

app.finalize()
app.conf.beat_schedule["pgvector_sync.tick"]["schedule"] = 0.2
app.start(["beat"])
"""

IMPATIENT_WORKER = """
from datetime import timedelta
import pgvector_sync.dispatch.doorbell

pgvector_sync.dispatch.doorbell.BELL_LIFE = timedelta(seconds=0.2)
from pgvector_sync.cli import main

main(["worker", "--concurrency", "1"])
"""


def messages(cluster: Cluster, queue: str) -> list[dict[str, Any]]:
    """Return the messages of a queue as stored in Redis."""
    with redis.Redis.from_url(cluster.valkey.url) as client:
        return [json.loads(message) for message in client.lrange(queue, 0, -1)]  # type: ignore[union-attr]


@pytest.mark.slow
def test_messages_are_json_and_hold_names_and_numbers_only(cluster: Cluster) -> None:
    cluster.processes.command("worker", "--queues", "maintenance").wait_for(READY)  # its relay rings, nobody comes
    cluster.insert(20)
    [bell] = eventually(lambda: messages(cluster, "live"))
    cluster.synced.declare(where="id > 0")
    cluster.synced.apply()
    [run] = eventually(lambda: messages(cluster, "bulk"))
    for worker in cluster.processes.started:
        assert worker.terminate() == 0
    cluster.processes.python(BEAT)
    [tick] = eventually(lambda: messages(cluster, "maintenance"), 20)
    run_id = cluster.synced.database.value("SELECT max(id) FROM pgvector_sync.run")
    expected = [(bell, EMBED_BATCH, ["docs", "live", 0, 8]), (run, RUN, [run_id]), (tick, TICK, [])]
    for message, task, arguments in expected:
        assert message["headers"]["task"] == task
        assert message["content-type"] == "application/json"
        assert json.loads(base64.b64decode(message["body"]))[:2] == [arguments, {}]
        assert message["headers"]["expires"]
        assert "text" not in message["headers"]["argsrepr"]


@pytest.mark.slow
def test_flushing_redis_again_and_again_loses_nothing(cluster: Cluster) -> None:
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_while_no_worker_runs_the_beat_leaves_one_message(cluster: Cluster) -> None:
    beat = cluster.processes.python(BEAT)
    cluster.insert(10)
    eventually(lambda: cluster.lengths()["maintenance"] == 1, 20)
    never(lambda: max(cluster.lengths().values()) > 1, 2.0)
    assert beat.terminate() == 0
    cluster.worker()
    cluster.settles()
    assert cluster.lengths() == {"live": 0, "bulk": 0, "maintenance": 0}


@pytest.mark.slow
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
    return cluster.synced.database.execute("SELECT last_at FROM pgvector_sync.tick WHERE name = 'tick'")


@pytest.mark.slow
def test_two_beats_have_the_effect_of_one(cluster: Cluster) -> None:
    cluster.worker()
    beats = [cluster.processes.python(BEAT), cluster.processes.python(BEAT)]
    first = eventually(lambda: tick_of(cluster), 20)

    def sent(beat: Process) -> int:
        return beat.printed.count("Sending due task pgvector_sync.tick")

    already = [sent(beat) for beat in beats]
    eventually(lambda: all(sent(beat) >= before + 4 for beat, before in zip(beats, already, strict=True)), 20)
    assert tick_of(cluster) == first
    assert [beat.terminate() for beat in beats] == [0, 0]


@contextmanager
def idle_relay(client: redis.Redis, lock: str) -> Iterator[None]:
    """Another process is the relay and does nothing. A lock that would live longer than a relay's is ignored."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.is_set():
            client.set(lock, IDLE_RELAY, px=int(ELECTED_FOR.total_seconds() * 900))
            ended.wait(0.1)

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()


@pytest.mark.slow
def test_without_a_relay_the_beat_still_rings(cluster: Cluster) -> None:
    with redis.Redis.from_url(cluster.valkey.url) as client:
        worker = cluster.worker()
        worker.wait_for("relay_elected")
        [lock] = client.keys("*:relay")
        with idle_relay(client, lock):
            worker.wait_for("relay_lost")
            cluster.processes.python(BEAT)
            cluster.insert(10)
            cluster.settles(60)
            assert client.get(lock) == IDLE_RELAY
