"""An application's Celery app serves our tasks beside its own, and keeps its logging, queues and settings."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis
from celery import Celery

import pgvector_sync
from pgvector_sync.dispatch.doorbell import open_doorbell
from pgvector_sync.dispatch.messages import EMBED_BATCH, REEMBED, RUN, TICK
from pgvector_sync.dispatch.queues import queue_depth
from pgvector_sync.errors import Refused
from pgvector_sync.model import Lane
from pgvector_sync.settings import load_settings
from support.cluster import Cluster
from support.processes import Process
from support.waiting import eventually

SHOP = """
import os

import pgvector_sync
from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"], set_as_current=True)
app.conf.task_default_queue = "shop"
app.conf.worker_hijack_root_logger = True
pgvector_sync.register(app, prefix="embed.")
app.conf.beat_schedule = {"stock": {"task": "shop.count", "schedule": 1.0}}


@app.task(name="shop.fail")
def fail():
    raise ValueError("out of stock: 17 apples")


@app.task(name="shop.count")
def count():
    print("counted", flush=True)
"""

INCLUDED = """
import os
from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"], include=["pgvector_sync.celery_app", "pgvector_sync.dispatch.tasks"])


@app.task(name="shop.fail")
def fail():
    raise ValueError("out of stock: 17 apples")
"""

CELERY = (sys.executable, "-m", "celery", "-A", "shop")
LOGGED = r"\[\d{4}-\d\d-\d\d [\d:,]+: ERROR/\w+-?\d*\] Task shop.fail\[.*\n?.*Traceback"
"""In the format of Celery's own, with message and traceback."""


@pytest.fixture
def shop(cluster: Cluster) -> Cluster:
    cluster.processes.env |= {"SHOP_BROKER": cluster.valkey.url}
    (cluster.processes.folder / "shop.py").write_text(SHOP)
    return cluster


def call(cluster: Cluster, task: str) -> None:
    assert cluster.processes.start(*CELERY, "call", task).wait() == 0


def kept_its_logging(worker: Process) -> None:
    worker.wait_for(r"ValueError: out of stock: 17 apples")
    worker.wait_for(LOGGED)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_one_worker_serves_its_own_tasks_and_ours(shop: Cluster, pool: str) -> None:
    worker = shop.processes.start(*CELERY, "worker", "-l", "INFO", "--pool", pool, "-c", "2")
    worker.wait_for("worker_ready")
    beat = shop.processes.start(*CELERY, "beat", "-l", "INFO")
    shop.insert(100)
    shop.settles()
    call(shop, "shop.fail")
    kept_its_logging(worker)
    worker.wait_for("counted")
    beat.wait_for(r"Sending due task stock")
    ticks = "SELECT count(*) FROM pgvector_sync.tick WHERE name = 'tick'"
    eventually(lambda: shop.synced.database.value(ticks) == 1, 30, what="the beat's tick is taken")
    assert "{'event'" not in worker.printed, "our lines are text in the application's format"
    assert (worker.terminate(), beat.terminate()) == (0, 0)


@pytest.mark.slow
def test_an_error_of_ours_quotes_no_row_in_the_applications_log(shop: Cluster) -> None:
    shop.synced.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'hunter2' USING DETAIL = 'hunter2', HINT = 'hunter2'; END $$"
    )
    shop.synced.run(
        "CREATE TRIGGER refuse BEFORE UPDATE ON pgvector_sync.work FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    worker = shop.processes.start(*CELERY, "worker", "-l", "DEBUG", "--pool", "threads", "-c", "2")
    worker.wait_for("worker_ready")
    shop.insert(1)
    worker.wait_for(r"TaskFailed.*RaiseException: SQLSTATE P0001 at .*\.py:\d+")
    assert worker.terminate() == 0
    assert "hunter2" not in worker.printed


@pytest.mark.slow
def test_a_worker_for_other_queues_has_no_relay_and_needs_no_setting_of_ours(shop: Cluster) -> None:
    del shop.processes.env["DATABASE_URL"], shop.processes.env["REDIS_URL"]
    worker = shop.processes.start(*CELERY, "worker", "-l", "INFO", "-c", "1", "-Q", "shop")
    worker.wait_for("ready")
    call(shop, "shop.fail")
    kept_its_logging(worker)
    assert "relay" not in worker.printed
    assert worker.terminate() == 0


@pytest.mark.parametrize("missing", ["DATABASE_URL", pytest.param("REDIS_URL", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_worker_that_cannot_serve_our_queues_says_why_and_ends(shop: Cluster, missing: str) -> None:
    del shop.processes.env[missing]
    worker = shop.processes.start(*CELERY, "worker", "-l", "INFO", "-c", "1")
    assert worker.wait() == 2
    assert f"export {missing}=" in worker.printed
    assert "Traceback" not in worker.printed


@pytest.mark.slow
def test_including_our_modules_does_nothing_to_the_application(shop: Cluster) -> None:
    (shop.processes.folder / "shop.py").write_text(INCLUDED)
    del shop.processes.env["DATABASE_URL"], shop.processes.env["REDIS_URL"]
    worker = shop.processes.start(*CELERY, "worker", "-l", "INFO", "-c", "1")
    worker.wait_for("ready")
    call(shop, "shop.fail")
    kept_its_logging(worker)
    assert EMBED_BATCH not in worker.printed
    assert worker.terminate() == 0


def test_importing_every_module_changes_nothing_outside() -> None:
    """Checked in a process of its own: environment, handlers, signals and settings of kombu stay unchanged."""
    code = """
import logging, pkgutil, signal, importlib, os
for name in ("DATABASE_URL", "REDIS_URL"):
    os.environ.pop(name, None)
from celery import Celery, current_app, signals
from kombu.transport.redis import Channel
host = Celery("shop", broker="redis://127.0.0.1:1/0")
host.set_current()
def state():
    return (
        list(logging.getLogger().handlers), logging.getLogger().level, Channel.do_restore, Channel.ack_emulation,
        [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)],
        current_app._get_current_object(), [list(s.receivers or ()) for s in vars(signals).values() if hasattr(s, "receivers")],
        sorted(host.tasks), sorted(host.amqp.queues), dict(os.environ),
    )
before = state()
import pgvector_sync
for found in pkgutil.walk_packages(pgvector_sync.__path__, "pgvector_sync."):
    if not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:  # an extra that is not installed
            assert not error.name.startswith("pgvector_sync"), error
other = Celery("other", broker="redis://127.0.0.1:1/0", set_as_current=False)
assert not [name for name in other.tasks if "pgvector" in name]
for old, new in zip(before, state(), strict=True):
    assert new == old, (old, new)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_only_the_beat_schedule_and_the_queues_of_the_app_grow() -> None:
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    pgvector_sync.register(app, prefix="embed.")
    before = dict(app.conf)
    app.finalize()
    changed = {name for name, value in dict(app.conf).items() if before.get(name) != value}
    assert changed <= {"beat_schedule"}
    assert set(app.amqp.queues.consume_from) == {"celery", "embed.live", "embed.bulk", "embed.maintenance"}
    assert {EMBED_BATCH, RUN, REEMBED, TICK} <= set(app.tasks)
    assert app.conf.beat_schedule[TICK]["options"]["queue"] == "embed.maintenance"
    assert TICK not in Celery("another", set_as_current=False).tasks


@pytest.mark.parametrize("routes", [{"*": {"exchange": "shop", "routing_key": "orders"}}, "raises"])
def test_the_apps_routes_dont_apply_to_our_messages(
    redis_url: str, routes: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str, *_: object, **__: object) -> None:
        raise KeyError(name)

    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/app")
    monkeypatch.setenv("REDIS_URL", redis_url)
    load_settings.cache_clear()
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.task_routes = unknown if routes == "raises" else routes
    pgvector_sync.register(app, prefix="embed.")
    app.finalize()
    assert open_doorbell(app).ring_slot("docs", Lane.LIVE, 0, 8)
    app.tasks[TICK].apply_async(queue="embed.maintenance")
    with redis.Redis.from_url(redis_url) as client:
        assert (client.llen("embed.live"), client.llen("embed.maintenance")) == (1, 1)
    load_settings.cache_clear()


def test_the_apps_prefix_of_keys_separates_its_environments(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/app")
    monkeypatch.setenv("REDIS_URL", redis_url)
    load_settings.cache_clear()
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "staging:"}
    pgvector_sync.register(app, prefix="embed.")
    app.finalize()
    assert open_doorbell(app).ring_slot("docs", Lane.LIVE, 0, 8)
    assert queue_depth(app, "embed.live") == 1
    with redis.Redis.from_url(redis_url) as client:
        assert (client.llen("staging:embed.live"), client.llen("embed.live")) == (1, 0)
    load_settings.cache_clear()


def test_registering_twice_has_no_effect_and_another_prefix_is_refused() -> None:
    app = Celery("shop", set_as_current=False)
    pgvector_sync.register(app)
    pgvector_sync.register(app)
    assert len(app.steps["worker"]) == 1
    with pytest.raises(Refused, match="already registered"):
        pgvector_sync.register(app, prefix="other.")
