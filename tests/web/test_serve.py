"""`pgvector-sync serve` as a process: what it answers, whom, and what it says when something is wrong."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from support.processes import Processes
from support.proxy import Proxy
from support.servers import Database
from support.serving import TOKEN, Serving, serving
from support.waiting import eventually


@pytest.fixture
def database_process(database: Database, processes: Processes) -> Iterator[tuple[Serving, Proxy]]:
    """A server without a token, whose connection to Postgres a test can cut."""
    with Proxy(database.url) as proxy, serving(processes, DATABASE_URL=proxy.url) as server:
        yield server, proxy


def test_it_serves_probes_and_metrics_and_ends_with_0_after_sigterm(
    database_process: tuple[Serving, Proxy],
) -> None:
    server, _ = database_process
    assert server.get("/livez").text == "alive\n"
    ready = server.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["schema"][:2]) == (200, True, "00")
    metrics = server.get("/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert re.search(r"^pgvector_sync_up 1", metrics.text, re.MULTILINE)
    assert server.process.terminate() == 0
    assert "Traceback" not in server.process.printed


@pytest.mark.slow
def test_without_the_database_it_is_alive_but_not_ready_and_recovers(
    database_process: tuple[Serving, Proxy],
) -> None:
    server, proxy = database_process
    assert server.get("/readyz").status_code == 200
    proxy.refuse()
    away = server.get("/readyz")
    assert (away.status_code, away.json()["reason"]) == (503, "database_unavailable")
    assert "the database is out of reach: connection failed" in away.json()["problem"]
    assert server.get("/livez").status_code == 200
    assert re.search(r"^pgvector_sync_up 0", server.get("/metrics").text, re.MULTILINE)
    proxy.heal()
    eventually(lambda: server.get("/readyz").status_code == 200)
    assert "Traceback" not in server.process.printed


@pytest.mark.slow
def test_a_silent_database_does_not_delay_livez(database_process: tuple[Serving, Proxy]) -> None:
    server, proxy = database_process
    assert server.get("/readyz").status_code == 200
    proxy.mute()
    waiting = [
        subprocess.Popen([sys.executable, "-c", GET_READYZ, server.url], stdout=subprocess.DEVNULL)
        for _ in range(6)  # more than there are threads
    ]
    try:
        eventually(lambda: proxy.open >= 2, what="requests wait for the database")
        assert server.client.get("/livez", timeout=2).status_code == 200
    finally:
        for process in waiting:
            process.kill()
            process.wait()


GET_READYZ = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/readyz')"


@pytest.mark.slow
def test_it_starts_while_the_database_is_away(processes: Processes) -> None:
    with serving(processes, DATABASE_URL="postgresql://127.0.0.1:1/app") as server:
        assert server.get("/livez").status_code == 200
        assert server.get("/readyz").status_code == 503


def test_with_a_token_only_the_probes_are_open_and_they_name_no_host(processes: Processes) -> None:
    with serving(
        processes, DATABASE_URL="postgresql://127.0.0.1:1/app", PGVECTOR_SYNC_SERVE_TOKEN=TOKEN
    ) as server:
        refused = server.get("/metrics")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert server.get("/metrics", authorization="Bearer wrong").status_code == 401
        assert server.get("/metrics", authorization=f"Bearer {TOKEN}").status_code == 200
        assert server.client.get("/metrics", auth=("anybody", TOKEN)).status_code == 200
        assert server.get("/livez").status_code == 200
        assert server.get("/readyz").json() == {"version": 1, "ready": False, "reason": "database_unavailable"}
        assert "127.0.0.1" in server.get("/readyz", authorization=f"Bearer {TOKEN}").json()["problem"]
        assert TOKEN not in server.process.printed


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.slow
def test_it_ends_at_once_while_a_client_holds_a_connection(
    processes: Processes, number: signal.Signals, name: str
) -> None:
    with serving(processes, DATABASE_URL="postgresql://127.0.0.1:1/app") as server:
        assert server.get("/livez").status_code == 200  # the client keeps the connection
        server.process.send(number)
        assert server.process.wait(10) == 0, name
        assert "Traceback" not in server.process.printed


def refusal(processes: Processes, *options: str, **env: str) -> tuple[int, str]:
    process = processes.command("serve", *options, **{"DATABASE_URL": "postgresql://127.0.0.1:1/app", **env})
    return process.wait(), process.printed


def test_a_taken_port_is_refused_with_what_to_do(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = refusal(processes, "--port", str(port))
    assert code == 1
    assert printed == (
        f"error: port {port} of 127.0.0.1 is already in use\n"
        f"  → choose another with --port, or find out which process has it: ss -ltnp 'sport = :{port}'\n"
    )


@pytest.mark.quick_variants(1)
@pytest.mark.parametrize(
    ("options", "env", "says"),
    [
        (("--host", "0.0.0.0"), {}, "--host: 0.0.0.0 can be reached from other machines, and no token is set"),
        (("--host", "192.0.2.1"), {}, "--host: 192.0.2.1 isn't an address of this machine"),
        (("--host", "no.such.host.invalid"), {}, "--host: no.such.host.invalid isn't an address of this machine"),
        ((), {"PGVECTOR_SYNC_SERVE_TOKEN": "short"}, "PGVECTOR_SYNC_SERVE_TOKEN: expected at least 16 printable"),
        ((), {"DATABASE_URL": ""}, "DATABASE_URL: no database is configured"),
    ],
)
def test_what_can_not_be_served_is_refused_in_one_line(
    processes: Processes, options: tuple[str, ...], env: dict[str, str], says: str
) -> None:
    code, printed = refusal(processes, "--port", "0", *options, **env)
    assert code == 2
    assert says in printed
    assert "→" in printed or "openssl rand" in printed
    assert "Traceback" not in printed
    assert env.get("PGVECTOR_SYNC_SERVE_TOKEN", "short!") not in printed


@pytest.mark.slow
def test_all_interfaces_are_served_with_a_token_or_when_it_is_said_to_be_meant(processes: Processes) -> None:
    away = {"DATABASE_URL": "postgresql://127.0.0.1:1/app"}
    for options, env in (((), {"PGVECTOR_SYNC_SERVE_TOKEN": TOKEN}), (("--no-token",), {})):
        with serving(processes, "--host", "0.0.0.0", *options, **away, **env) as server:
            assert server.get("/livez").status_code == 200


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install(processes: Processes) -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(['starlette', 'prometheus_client']))\n"
    process = processes.python(f"{hide}from pgvector_sync.cli import main; main(['serve'])")
    assert process.wait() == 2
    assert process.printed == (
        "error: serve: not installed: starlette, prometheus_client\n  → pip install 'pgvector-sync[web]'\n"
    )


@pytest.mark.slow
def test_clients_that_never_finish_their_request_keep_nobody_out_and_are_closed(
    database_process: tuple[Serving, Proxy],
) -> None:
    server, _ = database_process
    address = ("127.0.0.1", httpx2.URL(server.url).port)
    held = [socket.create_connection(address, timeout=30) for _ in range(300)]
    try:
        for connection in held:
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        assert server.get("/livez").status_code == 200
        assert server.get("/metrics").status_code == 200
        for connection in held:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b"", "closed without an answer"
    finally:
        for connection in held:
            connection.close()
    assert server.get("/livez").status_code == 200
    assert "Traceback" not in server.process.printed
