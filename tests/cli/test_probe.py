"""`pgvector-sync probe` asks real processes: what makes them unready, and what makes them dead."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from pgvector_sync.cli import probe
from pgvector_sync.engine import pulse_socket
from pgvector_sync.engine.pulse import Listener, Pulse
from pgvector_sync.telemetry.events.process import ProbeUnavailable
from support.cluster import Cluster
from support.events import collected
from support.processes import Processes
from support.proxy import Proxy
from support.waiting import eventually, never


@pytest.fixture(autouse=True)
def _short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder of the test, whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="probe-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield


def pulse(role: str = "worker", *, limit: timedelta = timedelta(minutes=1)) -> Pulse:
    return Pulse(role, f"{role}@host", limit=limit, needs=("Postgres", "Redis"))


def passes(role: str, *, live: bool = False) -> bool:
    return probe.check(role, live=live)[0]


def test_it_is_ready_once_every_server_was_reached_and_alive_from_the_beginning() -> None:
    state = pulse()
    with Listener(state):
        assert probe.check("worker") == (
            False,
            ["not ready: worker@host (Postgres: not reached yet; Redis: not reached yet)"],
        )
        assert passes("worker", live=True)
        state.judge("Postgres", None)
        state.judge("Redis", None)
        assert probe.check("worker") == (True, ["ready: worker@host"])
        state.judge("Postgres", "out of reach")
        assert probe.check("worker", live=True) == (True, ["alive: worker@host (Postgres: out of reach)"])
        assert not passes("beat")
    assert not passes("worker", live=True), "it has ended"


def test_a_loop_that_hangs_is_not_alive_until_it_turns_again() -> None:
    state = pulse(limit=timedelta(milliseconds=50))
    with Listener(state):
        eventually(lambda: not passes("worker", live=True))
        assert "its loop has not turned for" in probe.check("worker")[1][0]
        state.beat()
        assert passes("worker", live=True)


def test_the_relays_own_loop_is_what_turns(cluster: Cluster) -> None:
    from pgvector_sync.dispatch import relay
    from pgvector_sync.dispatch.app import app
    from pgvector_sync.dispatch.doorbell import open_doorbell

    hung, released = threading.Event(), threading.Event()

    def children() -> tuple[int, ...]:
        if hung.is_set():
            released.wait(20)
        return ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", cluster.valkey.url)
        patch.setenv("DATABASE_URL", cluster.synced.database.url)
        patch.setattr(relay, "turn_limit", lambda _: timedelta(seconds=1))
        thread = relay.Relay(open_doorbell(app), "worker@host", 1, children)
        thread.start()
        try:
            eventually(lambda: passes("worker"))
            hung.set()
            eventually(lambda: not passes("worker", live=True))
            released.set()
            hung.clear()
            eventually(lambda: passes("worker"))
        finally:
            released.set()
            thread.stop()


def test_a_frozen_process_does_not_answer_and_a_killed_one_is_not_running(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time, datetime\nfrom pgvector_sync.engine.pulse import Listener, Pulse\n"
        "with Listener(Pulse('worker', 'worker@host', limit=datetime.timedelta(minutes=1), needs=())):\n"
        "    print('listening', flush=True)\n    time.sleep(60)\n"
    )
    process = processes.python(code)
    process.wait_for("listening")
    assert passes("worker")
    monkeypatch.setattr(pulse_socket, "TIMEOUT_SECONDS", 0.2)
    process.send(signal.SIGSTOP)
    eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    assert "not answering: worker with process id" in probe.check("worker")[1][0]
    process.kill()
    assert "was killed" in probe.check("worker")[1][0]
    with Listener(pulse()):  # the next one cleans up
        assert len(probe.check("worker", live=True)[1]) == 1


def test_a_child_does_not_keep_the_socket_of_a_killed_parent(processes: Processes) -> None:
    code = (
        "import os, time, datetime\nfrom pgvector_sync.engine.pulse import Listener, Pulse\n"
        "with Listener(Pulse('worker', 'worker@host', limit=datetime.timedelta(minutes=1), needs=())):\n"
        "    if os.fork() == 0:\n        print('child', flush=True)\n    time.sleep(60)\n"
    )
    process = processes.python(code)
    process.wait_for("child")
    process.send(signal.SIGKILL)
    process.wait()
    assert "was killed" in probe.check("worker")[1][0]


def test_a_folder_that_others_can_enter_is_not_used() -> None:
    folder = Path(pulse_socket.folder())
    folder.mkdir()
    folder.chmod(0o755)
    with collected() as events, Listener(pulse()):
        assert events.of(ProbeUnavailable)
        assert not passes("worker")


@pytest.mark.parametrize("arguments", [(), ("gardener",), ("worker", "--loud"), ("worker", "--name")])
def test_wrong_usage_is_answered_with_the_right_one(processes: Processes, arguments: tuple[str, ...]) -> None:
    process = processes.command("probe", *arguments)
    assert process.wait() == 2
    assert "usage: pgvector-sync probe {worker,beat,sync}" in process.printed


def test_it_imports_almost_nothing() -> None:
    code = """
import sys
from pgvector_sync.cli import main
try:
    main(["probe", "worker"])
except SystemExit as end:
    assert end.code == 1, end.code
heavy = {"typer", "pydantic", "psycopg", "structlog", "celery", "argparse", "pathlib", "asyncio", "logging"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_without_postgres_is_alive_and_not_ready_and_recovers(cluster: Cluster, pool: str) -> None:
    with Proxy(cluster.synced.database.url) as proxy:
        worker = cluster.worker(pool, DATABASE_URL=proxy.url)
        eventually(lambda: passes("worker"), 20)
        proxy.refuse()
        eventually(lambda: not passes("worker"), 30)
        never(lambda: not passes("worker", live=True), 3)
        assert "Postgres: the database is out of reach" in probe.check("worker")[1][0]
        proxy.heal()
        eventually(lambda: passes("worker"), 30)
        assert worker.terminate() == 0
    assert probe.check("worker")[1][0].startswith("no worker of this user runs here")


@pytest.mark.slow
def test_a_worker_and_beat_without_redis_are_alive_and_not_ready_and_recover(cluster: Cluster) -> None:
    cluster.worker()
    cluster.processes.command("beat")
    for role in ("worker", "beat"):
        eventually(lambda role=role: passes(role), 30)
    cluster.valkey.stop(at_once=True)
    try:
        for role in ("worker", "beat"):
            eventually(lambda role=role: not passes(role), 30)
            assert passes(role, live=True)
    finally:
        cluster.valkey.start()
    for role in ("worker", "beat"):
        eventually(lambda role=role: passes(role), 60)


@pytest.mark.slow
def test_a_killed_or_frozen_beat_is_not_alive(cluster: Cluster) -> None:
    beat = cluster.processes.command("beat")
    eventually(lambda: passes("beat"), 30)
    beat.send(signal.SIGSTOP)
    assert not passes("beat", live=True)
    beat.send(signal.SIGCONT)
    assert passes("beat", live=True)
    beat.kill()
    assert not passes("beat", live=True)


def test_it_answers_again_after_a_shortage_of_file_descriptors() -> None:
    state = pulse()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Linux reserves a descriptor before it waits for a client, so the first one may be answered
    with Listener(state), socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        [path] = pulse_socket.sockets("worker")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # so that no further one can be opened
        try:
            first.connect(path)
            second.settimeout(0.5)
            second.connect(path)
            with pytest.raises(TimeoutError):
                second.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert passes("worker", live=True)


@pytest.mark.slow
def test_sync_answers_too(cluster: Cluster) -> None:
    sync = cluster.processes.command("sync")
    eventually(lambda: passes("sync"), 30)
    sync.interrupt()
    assert sync.wait() == 130
    assert not passes("sync")
