"""Another user of the machine takes the port of an embedded server, and gets no password that is still valid."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from pgvector_sync.cli.environment import use_embedded_if_running
from pgvector_sync.database import connect
from pgvector_sync.local import embedded
from pgvector_sync.local.embedded.server import Server, start_somewhere
from pgvector_sync.settings import load_settings
from support.embedded_folder import postgres_of, start, state_of, valkey_of

GIVE_ME_YOUR_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"
"""Postgres' request for a cleartext password."""


@pytest.fixture
def folder(project: Path) -> Iterator[Path]:
    yield project / ".pgvector-sync"
    embedded.remove(project / ".pgvector-sync")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    load_settings.cache_clear()
    return tmp_path


class Impostor:
    """Listens in a server's place, sends what makes clients authenticate, and keeps what they send."""

    def __init__(self, port: int, answer: bytes) -> None:
        self.heard = b""
        self._answer = answer
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._listen, args=(client,), daemon=True).start()

    def _listen(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while said := client.recv(65_536):
                self.heard += said
                client.sendall(b"N" if said.endswith(b"\x04\xd2\x16\x2f") else self._answer)


@contextmanager
def impostors(answer: bytes) -> Iterator[Callable[[int], Impostor]]:
    made: list[Impostor] = []

    def make(port: int) -> Impostor:
        made.append(Impostor(port, answer))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.listener.close()


@pytest.mark.parametrize("kind", ["postgres", pytest.param("valkey", marks=pytest.mark.slow)])
def test_a_user_who_takes_a_port_during_the_start_gets_no_password(folder: Path, kind: str) -> None:
    """The attacker takes the port between its choice and the start of the server."""
    start(folder)
    server: Server = postgres_of(folder) if kind == "postgres" else valkey_of(folder)
    embedded.stop(folder)
    with impostors(GIVE_ME_YOUR_PASSWORD if kind == "postgres" else b"+OK\r\n") as impostor:
        taken: list[Impostor] = []

        def record() -> None:
            if not taken:
                taken.append(impostor(server.port))

        try:
            start_somewhere(server, record)
            assert server.port != taken[0].listener.getsockname()[1]
            assert server.is_ready
            assert server.password.encode() not in taken[0].heard
        finally:
            server.stop(at_once=True)


def test_a_user_who_takes_the_port_of_a_dead_postgres_gets_no_password(folder: Path) -> None:
    start(folder)
    before = dict(os.environ)
    try:
        use_embedded_if_running()
        server = postgres_of(folder)
        server.stop(at_once=True)
        with impostors(GIVE_ME_YOUR_PASSWORD) as impostor:
            taken = impostor(server.port)
            with pytest.raises(psycopg.OperationalError), connect(load_settings().database()):
                pass
            assert b"postgres" in taken.heard
            assert server.password.encode() not in taken.heard
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
def test_a_user_who_takes_the_port_of_a_dead_valkey_doesnt_get_the_next_password(folder: Path) -> None:
    found = start(folder)
    server = valkey_of(folder)
    server.stop(at_once=True)
    with impostors(b"+OK\r\n") as impostor:
        taken = impostor(server.port)
        with redis.Redis.from_url(found.redis_url) as client, suppress(redis.RedisError):
            client.ping()
        assert server.password.encode() in taken.heard, "a client of before has told it"
        start(folder)
        assert state_of(folder)["valkey"]["password"].encode() not in taken.heard
