"""PgBouncer in front of a real server: each client logs in as itself, in any pool mode, with TLS or without."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from support.processes import Process, Processes
from support.servers import Database

installed = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
"""Debian's package `pgbouncer`."""


class Pooler:
    """A running PgBouncer for one database."""

    def __init__(self, process: Process, port: int, database: str, passwords: Mapping[str, str]) -> None:
        self.process = process
        self.port = port
        self._database = database
        self._passwords = passwords

    def url(self, user: str, **parameters: object) -> str:
        """The URL of a role; `parameters` are libpq's. A password of None leaves it out."""
        parts = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": self._database}
        given = {"password": self._passwords[user], **parameters}
        return make_conninfo("", **parts | {name: value for name, value in given.items() if value is not None})


def start_pgbouncer(
    processes: Processes,
    database: Database,
    passwords: Mapping[str, str],
    folder: Path,
    *,
    mode: str = "transaction",
    **settings: object,
) -> Pooler:
    """Starts it with an ending that `processes` takes care of; `settings` are lines of its configuration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    users, config = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text("".join(f'"{name}" "{password}"\n' for name, password in passwords.items()))
    lines = {
        "listen_addr": "127.0.0.1", "listen_port": port, "auth_type": "plain", "auth_file": users, "pool_mode": mode,
        "unix_socket_dir": "",
    }  # fmt: skip
    config.write_text(
        f"[databases]\n{database.name} = host=127.0.0.1 port={database.server.port}\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in (lines | settings).items())
    )
    for path in (*folder.iterdir(), *list(config.parents)[:3]):
        path.chmod(0o755)  # it refuses to run as root
    process = processes.start("pgbouncer", "--user=nobody", config)
    process.wait_for("process up")
    return Pooler(process, port, database.name, passwords)
