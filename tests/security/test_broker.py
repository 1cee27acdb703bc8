"""A client that can write to the broker can only cause latency. Each attack has nothing but a connection to Valkey."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from celery import Celery

from pgvector_sync.dispatch.messages import EMBED_BATCH, REEMBED, RUN, TICK
from pgvector_sync.embedding.budget import LONGEST_DEBT, Budget, _gauge
from pgvector_sync.embedding.budget.bucket import LONGEST_PAUSE, Verb
from pgvector_sync.embedding.budget.redis_buckets import RedisBuckets
from pgvector_sync.errors import RateLimited
from pgvector_sync.model import Lane, Provider
from pgvector_sync.settings import Settings
from support.cluster import CELERY, QUEUES, READY, Cluster
from support.processes import Process
from support.waiting import within

FAR = 2_713_910_400
"""A Unix time in the year 2056."""


@pytest.fixture
def attacker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def message(args: Any = ("docs", "live", 0, 1), task: Any = EMBED_BATCH, **changes: Any) -> bytes:
    """A message as Celery writes it, with changes; a value of `...` removes the field."""
    without = [name for name in list(changes) if changes[name] is ... and changes.pop(name)]
    embed = changes.pop("embed", {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
    body = changes.pop("body", json.dumps([args, changes.pop("kwargs", {}), embed]).encode())
    headers = {
        "lang": "py", "task": task, "id": "11111111-1111-1111-1111-111111111111", "root_id": None, "parent_id": None,
        "group": None, "shadow": None, "eta": None, "expires": None, "retries": 0, "timelimit": [None, None],
        "argsrepr": "", "kwargsrepr": "{}", "origin": "x", "ignore_result": True, **changes.pop("headers", {}),
    }  # fmt: skip
    properties = {
        "correlation_id": "1", "reply_to": "1", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "live"}, "delivery_tag": "1",
    } | changes.pop("properties", {})  # fmt: skip
    whole = {
        "body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": headers, "properties": properties, **changes,
    }  # fmt: skip
    return json.dumps({name: value for name, value in whole.items() if name not in without}).encode()


LINK = {"task": EMBED_BATCH, "args": ["docs", "live"], "kwargs": {}, "options": {"queue": "bulk"}}
GARBAGE: dict[str, bytes] = {
    "not JSON": b"garbage",
    "nothing": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "null": b"null",
    "a number": b"17",
    "a list": b"[]",
    "an empty object": b"{}",
    "a string": b'"live"',
    "NaN": b"NaN",
    "a number of 5,000 digits": b"1" * 5_000,
    "nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "a type that kombu decodes": b'{"__type__": [], "__value__": 1}',
    "without properties": message(properties=...),
    "properties that are a list": message().replace(b'"properties": {', b'"x": {', 1),
    "without headers": message(headers={}, **{"content-type": "application/json"}).replace(b'"headers"', b'"h"'),
    "headers that are a string": json.dumps(json.loads(message()) | {"headers": "x"}).encode(),
    "pickle": message(**{"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
    "yaml": message(**{"content-type": "application/x-yaml"}),
    "a content type that is a list": message(**{"content-type": [1]}),
    "an unknown encoding": message(**{"content-encoding": "utf-17"}),
    "compressed": message(headers={"compression": "application/x-gzip"}),
    "a body that is not base64": json.dumps(json.loads(message()) | {"body": "%%%"}).encode(),
    "a body that is a number": json.dumps(json.loads(message()) | {"body": 3}).encode(),
    "a body that is not JSON": message(body=b"garbage"),
    "a body nested deeply": message(body=b"[" * 5_000 + b"]" * 5_000),
    "a body that is an object": message(body=b'{"args": []}'),
    "a huge body": message(args=["docs" * 1_000_000, "live"]),
    "an unknown task": message(task="os.system"),
    "a task of Celery's own": message(task="celery.map", args=[LINK, [1]]),
    "a task that is a list": message(task=[EMBED_BATCH]),
    "no arguments": message(args=[]),
    "too many arguments": message(args=["docs", "live", 0, 1, 2, 3]),
    "arguments of another name": message(kwargs={"database_url": "x"}),
    "a pipeline that is an object": message(args=[{"a": 1}, "live"]),
    "an unknown lane": message(args=["docs", "urgent"]),
    "a slot that is a string": message(args=["docs", "live", "0"]),
    "a slot that is negative": message(args=["docs", "live", -1]),
    "a slot without end": message(args=["docs", "live", 10**30]),
    "a share of nothing": message(args=["docs", "live", 0, 0]),
    "a run that is a string": message(task=RUN, args=["1; DROP TABLE docs"]),
    "a run beyond bigint": message(task=RUN, args=[2**63]),
    "a run that is a float": message(task=RUN, args=[1e308]),
    "a tick with arguments": message(task=TICK, args=[1]),
    "an eta in 2056": message(headers={"eta": "2056-01-01T00:00:00+00:00"}),
    "an eta that is an object": message(headers={"eta": {}}),
    "expires that is an object": message(headers={"expires": {}}),
    "expires in the year 10000": message(headers={"expires": "10000-01-01T00:00:00"}),
    "retries without end": message(headers={"retries": 10**30}),
    "retries that is a string": message(headers={"retries": "x"}),
    "a time limit of nothing": message(headers={"timelimit": [0.001, 0.001]}),
    "a time limit that is a string": message(headers={"timelimit": "x"}),
    "a priority that is a string": message(properties={"priority": "x"}),
    "delivery info that is a string": message(properties={"delivery_info": "x"}),
    "without a delivery tag": message(properties={"delivery_tag": None}),
    "an id that is an object": message(headers={"id": {}}),
    "a chord": message(embed={"callbacks": None, "errbacks": None, "chain": None, "chord": LINK}),
    "callbacks": message(embed={"callbacks": [LINK], "errbacks": [LINK], "chain": [LINK], "chord": None}),
    "callbacks that are a number": message(embed={"callbacks": 3, "errbacks": 3, "chain": 3, "chord": 3}),
    "embedded things that are a list": message(embed=[1]),
    "a shadow and stamps": message(headers={"shadow": "\x1b[2J", "stamped_headers": ["x"], "stamps": 3}),
}


def works(cluster: Cluster, worker: Process, start: int) -> None:
    """Asserts that the worker still embeds changes."""
    cluster.insert(5, start=start)
    cluster.settles()
    assert worker.exit_code is None


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_no_message_ends_or_wedges_a_worker(cluster: Cluster, attacker: redis.Redis, pool: str) -> None:
    worker = cluster.worker(pool, concurrency=1)
    for queue in QUEUES:
        attacker.lpush(queue, *GARBAGE.values())
    cluster.insert(5)
    cluster.settles()
    worker.wait_for(lambda: not any(cluster.lengths().values()))
    works(cluster, worker, 101)
    assert "message_refused" in worker.printed
    assert "Traceback" not in worker.printed
    assert "\x1b[2J" not in worker.printed
    assert worker.printed.count("message_refused") < len(GARBAGE), "a flood of messages is no flood of lines"
    assert worker.terminate() == 0


@pytest.mark.parametrize("what", ["callbacks", pytest.param("a chord", marks=pytest.mark.slow)])
def test_a_message_does_not_make_a_worker_send_others(cluster: Cluster, attacker: redis.Redis, what: str) -> None:
    worker = cluster.worker("threads", concurrency=1, PGVECTOR_SYNC_LOG_LEVEL="DEBUG")
    attacker.config_set("slowlog-max-len", 100_000)
    attacker.config_set("slowlog-log-slower-than", 0)  # logs every command
    attacker.slowlog_reset()
    try:
        attacker.lpush("live", GARBAGE[what])
        works(cluster, worker, 1)  # perhaps for the attacker's message, which is a doorbell too
        works(cluster, worker, 101)
        worker.wait_for(lambda: not any(cluster.lengths().values()))
        commands = [entry["command"].split() for entry in attacker.slowlog_get(100_000)]
    finally:
        attacker.config_set("slowlog-log-slower-than", 10_000)
        attacker.config_set("slowlog-max-len", 128)
    pushes = [words[1] for words in commands if words[0] == b"LPUSH"]
    assert pushes.count(b"live") > 1, "the attacker's own push is seen, and the relay's"
    assert set(pushes) == {b"live"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ours", "celery"])
@pytest.mark.parametrize("order", ["shutdown", "pool_restart", "rate_limit", "cancel_consumer", "time_limit"])
def test_remote_control_reaches_no_worker(cluster: Cluster, command: str, order: str) -> None:
    pool = ("--pool", "threads", "--concurrency", "1")
    worker = (
        cluster.processes.command("worker", *pool)
        if command == "ours"
        else cluster.processes.start(*CELERY, "worker", *pool)
    )
    worker.wait_for(READY)
    arguments = {
        "rate_limit": {"task_name": EMBED_BATCH, "rate_limit": "1/h"},
        "time_limit": {"task_name": EMBED_BATCH, "hard": 0.001, "soft": 0.001},
        "cancel_consumer": {"queue": "live"},
    }
    with Celery(broker=cluster.valkey.url, set_as_current=False) as anybody:
        replies = anybody.control.broadcast(order, arguments=arguments.get(order, {}), reply=True, timeout=1)
    assert replies == []
    works(cluster, worker, 1)
    with redis.Redis.from_url(cluster.valkey.url) as client:
        assert client.pubsub_numpat() == 0, "gossip and remote control would listen"
        assert client.pubsub_channels() == []


def namespace(attacker: redis.Redis) -> str:
    """The namespace of our keys, which the attacker finds by listing keys."""
    (found,) = {key.decode().rpartition(":slots")[0] for key in attacker.keys("*:slots")}
    return found


def forged_slots(attacker: redis.Redis, at: str) -> None:
    attacker.zadd(
        f"{at}:slots", {"x:abc": FAR, b"\xff\xfe:3": FAR, "y:-5": time.time(), f"z:{'9' * 5000}": time.time()}
    )
    attacker.zadd(f"{at}:slots", {"i:1": "inf", ":": time.time(), "w:1.5": time.time(), "": time.time()})
    attacker.persist(f"{at}:slots")


def wrong_slots(attacker: redis.Redis, at: str) -> None:
    attacker.set(f"{at}:slots", b"\xff")


def wedged_bells(attacker: redis.Redis, at: str) -> None:
    for lane in ("live", "bulk"):
        for slot in range(8):
            attacker.set(f"{at}:bell:docs:{lane}:{slot}", b"\xff")
    attacker.delete(f"{at}:bell:docs:live:7")
    attacker.lpush(f"{at}:bell:docs:live:7", "x")
    attacker.set(f"{at}:bell:docs:live:6", "1", ex=10**9)


def wedged_election(attacker: redis.Redis, at: str) -> None:
    attacker.set(f"{at}:relay", b"\xff\xfe")


def distant_election(attacker: redis.Redis, at: str) -> None:
    attacker.set(f"{at}:relay", "x", ex=10**9)


def wrong_election(attacker: redis.Redis, at: str) -> None:
    attacker.delete(f"{at}:relay")
    attacker.hset(f"{at}:relay", "a", "b")


def wrong_queues(attacker: redis.Redis, at: str) -> None:
    for name in (*QUEUES, *(f"_kombu.binding.{queue}" for queue in QUEUES), "_kombu.binding_deadlines"):
        attacker.delete(name)
        attacker.set(name, b"\xff")


def wrong_bindings(attacker: redis.Redis, at: str) -> None:
    for queue in QUEUES:
        attacker.delete(f"_kombu.binding.{queue}")
        attacker.sadd(f"_kombu.binding.{queue}", b"\xff", "x", f"{queue}\x06\x16\x06\x16elsewhere")


LEFT_BEHIND = [
    forged_slots, wrong_slots, wedged_bells, wedged_election, distant_election, wrong_election, wrong_queues, wrong_bindings,
]  # fmt: skip


@pytest.mark.parametrize(
    "forge",
    [one if one is wedged_election else pytest.param(one, marks=pytest.mark.slow) for one in LEFT_BEHIND],
    ids=lambda one: one.__name__,
)
def test_data_left_in_redis_doesnt_stop_a_pipeline(
    cluster: Cluster, attacker: redis.Redis, forge: Callable[[redis.Redis, str], None]
) -> None:
    worker = cluster.worker("threads", concurrency=1)
    works(cluster, worker, 1)
    forge(attacker, namespace(attacker))
    works(cluster, worker, 101)
    assert "relay_failed" not in worker.printed
    assert "Traceback" not in worker.printed


@pytest.mark.slow
def test_a_message_does_not_start_work_that_postgres_does_not_have(
    cluster: Cluster, attacker: redis.Redis
) -> None:
    cluster.insert(5)
    worker = cluster.worker("threads", concurrency=1)
    cluster.settles()
    calls = cluster.calls()
    for slot in range(8):
        attacker.lpush("live", message(["docs", "live", slot, 1_000]), message(["docs", "bulk", slot, 1_000]))
        attacker.lpush("maintenance", message([slot], RUN), message([], TICK), message(["docs"], REEMBED))
    worker.wait_for(lambda: not any(cluster.lengths().values()))
    runs = "SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reembed'"
    worker.wait_for(lambda: cluster.synced.database.value(f"{runs} AND state = 'finished'"))
    for _ in range(20):
        attacker.lpush("maintenance", message(["docs"], REEMBED))
    worker.wait_for(lambda: not any(cluster.lengths().values()))
    cluster.settles()
    assert cluster.calls() == calls, "nothing is bought"
    assert cluster.synced.database.value(runs) == 1, "a message asks for one an hour at most"


def test_the_names_of_keys_tell_nothing_about_the_password() -> None:
    names = {
        Settings(_env_file=None, DATABASE_URL=f"postgresql://{account}@db.example:5432/app").namespace()
        for account in ("worker:secret", "worker:another", "owner:secret", "worker")
    }
    assert len(names) == 1
    assert Settings(_env_file=None, DATABASE_URL="postgresql://db.example/other").namespace() not in names


# -- the budget ------------------------------------------------------------------------------------------------

LIMITED = Provider("p", requests_per_minute=60, tokens_per_minute=60_000)
KEY = "test:budget:p:m"
FORGED: dict[str, Callable[[redis.Redis], object]] = {
    "blocked until 2056": lambda client: client.hset(KEY, mapping={"at": FAR, "requests": 3, "tokens": 3_000}),
    "blocked forever": lambda client: client.hset(KEY, mapping={"at": "inf", "requests": 3, "tokens": 3_000}),
    "a time that is not a number": lambda client: client.hset(KEY, mapping={"at": "nan", "requests": "nan", "tokens": "x"}),
    "bytes": lambda client: client.hset(KEY, mapping={"at": b"\xff", "requests": b"\xff", "tokens": b""}),
    "a debt without its time": lambda client: client.hset(KEY, mapping={"requests": -1e300, "tokens": -1e300}),
    "a string": lambda client: client.set(KEY, "x"),
    "a list": lambda client: client.lpush(KEY, "x"),
    "levels without end": lambda client: client.hset(KEY, mapping={"at": 1, "requests": "inf", "tokens": "1e308"}),
}  # fmt: skip


@pytest.fixture
def budget(redis_url: str) -> Iterator[Budget]:
    made = Budget(LIMITED, RedisBuckets(redis_url, prefix="test"))
    yield made
    made.close()


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.quick_variants(4)
def test_a_forged_budget_is_replaced(budget: Budget, attacker: redis.Redis, forged: str) -> None:
    FORGED[forged](attacker)
    budget.take("m", 100, lane=Lane.LIVE, deadline=within(10))
    assert attacker.type(KEY) == b"hash"
    assert 0 < attacker.pttl(KEY) <= (LONGEST_PAUSE + LONGEST_DEBT) / timedelta(milliseconds=1)


def test_a_forged_budget_allows_at_most_one_burst(budget: Budget, attacker: redis.Redis) -> None:
    FORGED["levels without end"](attacker)
    for _ in range(3):  # 60 per minute allow 3 at once
        budget.take("m", 1, lane=Lane.LIVE, deadline=within(0.1))
    with pytest.raises(RateLimited):
        budget.take("m", 1, lane=Lane.LIVE, deadline=within(0.1))


@pytest.mark.parametrize("level", ["-1e300", "-inf", "-1e9"])
def test_a_forged_debt_holds_up_for_minutes_and_is_paid_off(
    budget: Budget, attacker: redis.Redis, level: str
) -> None:
    now = attacker.time()[0]
    attacker.hset(KEY, mapping={"at": now, "requests": level, "tokens": level})
    with pytest.raises(RateLimited) as limited:
        budget.take("m", 100, lane=Lane.LIVE, deadline=within(10))
    assert limited.value.retry_after is not None
    assert limited.value.retry_after < LONGEST_DEBT + timedelta(minutes=1), "what is written to Postgres from it"
    attacker.hset(KEY, "at", now - LONGEST_DEBT.total_seconds() - 60)  # as if that time had passed
    budget.take("m", 100, lane=Lane.LIVE, deadline=within(10))


def test_a_pause_in_redis_lasts_at_most_a_minute(budget: Budget, attacker: redis.Redis) -> None:
    budget.block("m", timedelta(days=1))
    buckets = RedisBuckets(attacker_url(attacker), prefix="test")
    wait = buckets.draw(Verb.TAKE, "p:m", [_gauge("requests", 60)])
    buckets.close()
    assert LONGEST_PAUSE.total_seconds() - 2 < wait <= LONGEST_PAUSE.total_seconds() + 1


def attacker_url(client: redis.Redis) -> str:
    given = client.connection_pool.connection_kwargs
    return f"redis://:{given['password']}@{given['host']}:{given['port']}/{given['db']}"
