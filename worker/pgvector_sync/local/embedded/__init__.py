"""An embedded Postgres and Valkey per folder, so that everything runs without installed servers.

    .pgvector-sync/
    ├── state.json     the servers' home, ports and passwords (mode 0600)
    ├── lock           held during a start or a stop
    └── servers/       the home: data and logs; it is elsewhere if root's servers can't reach this folder

The servers outlive the process that started them. Later processes find them by the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pgvector_sync.errors import Refused
from pgvector_sync.local.embedded import account as accounts
from pgvector_sync.local.embedded.account import HOME, Account, make_home
from pgvector_sync.local.embedded.ownership import make_folder, read_own, require_own
from pgvector_sync.local.embedded.postgres import ENVIRONMENT, NOT_DURABLE, PostgresServer
from pgvector_sync.local.embedded.server import START_STOP_TIMEOUT, Server, start_somewhere, wait_until
from pgvector_sync.local.embedded.valkey import ValkeyServer
from pgvector_sync.settings import EMBEDDED_CLUSTER

FOLDER = Path(".pgvector-sync")
"""The default folder, in the current directory."""
STATE = "state.json"

__all__ = [
    "ENVIRONMENT",
    "FOLDER",
    "Embedded",
    "PostgresServer",
    "ValkeyServer",
    "find",
    "remove",
    "start",
    "stop",
]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running Postgres and Valkey. Both URLs contain passwords and must never be logged."""

    folder: Path
    home: Path
    """The folder of the data and the logs, `postgres.log` and `valkey.log`."""
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


def find(folder: Path = FOLDER) -> Embedded | None:
    """Return the folder's servers if both accept connections. Raises Refused if the folder can't be trusted."""
    servers = _Servers.read(folder)
    return servers.embedded if servers and servers.are_ready else None


def start(
    folder: Path = FOLDER, *, durable: bool = True, postgres_options: Mapping[str, str] | None = None
) -> Embedded:
    """Start those of the folder's servers that aren't running. The first start creates them.

    `durable=False` makes Postgres faster, but a crash of the machine can lose data. It and `postgres_options`
    don't affect a running server. Raises Refused if the extra isn't installed or a server doesn't start.
    """
    make_folder(folder)
    with _lock(folder):
        servers = _Servers.read(folder) or _Servers.create(folder)
        servers.postgres.options = {
            "cluster_name": EMBEDDED_CLUSTER,
            **({} if durable else NOT_DURABLE),
            **(postgres_options or {}),
        }
        for server in servers.both:
            if not server.is_ready:
                start_somewhere(server, servers.write)
        return servers.embedded


def stop(folder: Path = FOLDER) -> bool:
    """Shut the folder's servers down in an orderly way; returns whether any was running.

    Raises Refused if a process doesn't end.
    """
    try:
        require_own(folder)
    except FileNotFoundError:
        return False
    with _lock(folder):
        servers = _Servers.read(folder)
        stopped = [server.stop() for server in servers.both] if servers else []
        return any(stopped)


def remove(folder: Path = FOLDER) -> None:
    """Stop the folder's servers and remove the folder with everything in it.

    Raises Refused if a process doesn't end or a file can't be removed.
    """
    stop(folder)
    servers = _Servers.read(folder)
    for place in (servers.home, folder) if servers else (folder,):
        # An interrupted start may still be writing a file.
        if not wait_until(partial(_is_removed, place), timedelta(seconds=10)):
            raise Refused(f"can't remove {place}", hint="remove it as the user who owns it")


class _Server(BaseModel):
    """The state of one server. Strict: a line break in a password would add a line to its configuration."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    port: int = Field(ge=0, le=65_535)
    password: str = Field(pattern=r"^[A-Za-z0-9_-]{16,128}\z")


class State(BaseModel):
    """The content of `state.json`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    home: str = Field(min_length=1, max_length=4_096)
    postgres: _Server
    valkey: _Server

    @property
    def servers(self) -> dict[str, dict[str, Any]]:
        """The keyword arguments of each server's constructor, by name."""
        return {"postgres": self.postgres.model_dump(), "valkey": self.valkey.model_dump()}


def _resolve_home(folder: Path, recorded: str) -> Path:
    """Return the home if it is in one of the two places that `make_home` uses. Raises ValueError otherwise."""
    if recorded == HOME:  # relative, so that the folder can be moved
        return folder.resolve() / HOME
    home = Path(recorded)
    if (
        os.geteuid() == 0
        and home.parent == accounts.SYSTEM_FOLDER
        and home.name not in ("", ".", "..", "programs")
    ):
        return home
    raise ValueError("not a valid home for servers")


@dataclass(frozen=True, slots=True)
class _Servers:
    """A folder's two servers, as `state.json` describes them."""

    folder: Path
    home: Path
    postgres: PostgresServer
    valkey: ValkeyServer

    @classmethod
    def create(cls, folder: Path) -> _Servers:
        if (folder / HOME).exists():
            raise Refused(
                f"{folder}/{HOME} has data, but its password is lost, because {folder}/{STATE} is missing",
                hint=f"remove {folder} to start over",
            )
        (folder / ".gitignore").write_text("*\n")
        state = {name: {"port": 0, "password": secrets.token_urlsafe(24)} for name in ("postgres", "valkey")}
        home = make_home(folder.resolve(), Account.for_servers())
        servers = cls._from(folder, home, state)
        servers.write()
        return servers

    @classmethod
    def read(cls, folder: Path) -> _Servers | None:
        try:
            state = State.model_validate_json(read_own(folder, STATE))
            return cls._from(folder, _resolve_home(folder, state.home), state.servers)
        except FileNotFoundError:
            return None
        except ValueError:
            path = folder / STATE
            raise Refused(f"{path} is damaged", hint=f"stop its servers and remove {folder}") from None

    @classmethod
    def _from(cls, folder: Path, home: Path, state: dict[str, dict[str, Any]]) -> _Servers:
        require_own(home, owners={os.geteuid(), Account.for_servers().uid})
        account = Account.owner_of(home)
        return cls(
            folder,
            home,
            PostgresServer(home, account, **state["postgres"]),
            ValkeyServer(home, account, **state["valkey"]),
        )

    def write(self) -> None:
        """Replace `state.json` atomically, so that no reader sees a partial file."""
        folder = self.folder.resolve()
        home = self.home.relative_to(folder) if self.home.is_relative_to(folder) else self.home
        state = {
            "home": str(home),
            **{server.name: {"port": server.port, "password": server.password} for server in self.both},
        }
        new = folder / f"{STATE}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(state, file, indent=2)
        new.replace(folder / STATE)

    @property
    def both(self) -> tuple[Server, Server]:
        return self.postgres, self.valkey

    @property
    def are_ready(self) -> bool:
        return all(server.is_ready for server in self.both)

    @property
    def embedded(self) -> Embedded:
        return Embedded(self.folder, self.home, self.postgres.url, self.valkey.url)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Allow one start or stop per folder at a time. Raises Refused if another one takes too long."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(
            f"can't write to {folder}: {error.strerror}", hint="run this as the user who owns it"
        ) from error
    try:
        if not wait_until(lambda: _try_lock(descriptor), 2 * START_STOP_TIMEOUT):
            raise Refused(
                f"another process is still starting or stopping the servers of {folder}", hint="end that process"
            )
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_removed(place: Path) -> bool:
    shutil.rmtree(place, ignore_errors=True)
    return not place.exists()
