"""What the embedded Postgres and Valkey have in common: a home, a port, a password, start and stop."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from pgvector_sync.errors import Refused
from pgvector_sync.local.embedded.account import Account
from pgvector_sync.local.running import is_locked
from pgvector_sync.model.deadline import Deadline

START_STOP_TIMEOUT = timedelta(seconds=60)
"""The maximum duration of a start or a stop."""


class Server(ABC):
    """One server on 127.0.0.1, detached from the process that started it.

    It is running while a lock on `home/<name>.running` is held, which all its processes inherit. A pid file can't
    tell: after a kill -9, a reboot or in a new container the pid may belong to another process, and a zombie
    still has one.
    """

    name: str

    def __init__(self, home: Path, account: Account, *, password: str, port: int = 0) -> None:
        self.home = home
        self.account = account
        self.password = password
        self.port = port
        """The port of the last start, which the next start tries first; 0 for any free port."""
        self.log = home / f"{self.name}.log"

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients. Contains the password."""

    @abstractmethod
    def _launch(self, running: int) -> None:
        """Start the daemon, which inherits the descriptor `running`. Raises Refused if that fails."""

    @abstractmethod
    def _accepts_connections(self) -> bool:
        """Whether a client can connect."""

    def renew_password(self) -> None:  # noqa: B027 - most passwords can't be changed
        """Choose another password for the next launch, if clients send it in plain text."""

    def _has_port(self, _since: int) -> bool:
        """Whether the log says, after its first `_since` bytes, that the server listens on the port."""
        return True

    @property
    @abstractmethod
    def _pid_file(self) -> Path:
        """The file whose first line is the daemon's pid."""

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is alive, even if it isn't ready."""
        with suppress(FileNotFoundError):
            return is_locked(self._open_running(os.O_RDONLY))
        return False

    @property
    def is_ready(self) -> bool:
        """Whether the server is running and a client can connect."""
        return self.is_running and self._accepts_connections()

    @property
    def pid(self) -> int | None:
        """The daemon's pid; None if it isn't running."""
        if not self.is_running:
            return None
        try:
            return int(self._pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def choose_port(self) -> int:
        """Choose the last port if it is free, else another port, with another password.

        Whichever process has the last port now may have received the password.
        """
        if self.is_running:
            return self.port
        if self.port == 0 or not _is_free(self.port):
            self.renew_password()
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
        return self.port

    def start(self) -> None:
        """Start the server on `self.port` and wait until a client can connect. Does nothing if one already can.

        Raises Refused with the end of the server's log if it ends or isn't ready in time.
        """
        if self.port == 0:
            self.choose_port()
        logged = self.log.stat().st_size if self.log.exists() else 0
        launched = 0
        if not self.is_running:
            launched = logged
            self._pid_file.unlink(missing_ok=True)
            descriptor = self._open_running(os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._launch(descriptor)
            finally:
                os.close(descriptor)
        try:
            # `_settled` checks the port first: until the server has it, another process could answer there.
            settled = partial(self._settled, launched)
            if wait_until(settled, START_STOP_TIMEOUT) and self.is_running:
                return
        except BaseException:
            self.stop(at_once=True)
            raise
        died = not self.is_running
        self.stop(at_once=True)
        # Only what it has logged since the start, because older lines may quote rows.
        output = self._logged_since(logged).decode(errors="replace").strip()
        outcome = "ended during its start" if died else "was not ready in time"
        raise Refused(f"the embedded {self.name} {outcome}: {output[-1000:]}", hint=f"see {self.log}")

    def _settled(self, launched: int) -> bool:
        return not self.is_running or (self._has_port(launched) and self._accepts_connections())

    def _logged_since(self, since: int) -> bytes:
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(since)
            return file.read()
        return b""

    def stop(self, *, at_once: bool = False) -> bool:
        """Stop the server and wait for its last process; returns whether it was running.

        `at_once` skips an orderly shutdown, so that the next start has to recover. Raises Refused if a process
        doesn't end.
        """
        if not self.is_running:
            return False
        self._signal(self._signals[1 if at_once else 0])
        if not wait_until(lambda: not self.is_running, START_STOP_TIMEOUT):
            self._signal(self._signals[1])
            if not wait_until(lambda: not self.is_running, timedelta(seconds=10)):
                raise Refused(f"the embedded {self.name} doesn't stop", hint=f"see {self.log}")
        return True

    _signals = (signal.SIGTERM, signal.SIGKILL)
    """The signals for an orderly and for an immediate shutdown."""

    def _signal(self, number: signal.Signals) -> None:
        # right after a launch, the pid isn't written yet
        wait_until(lambda: self.pid is not None or not self.is_running, timedelta(seconds=5))
        pid = self.pid
        if pid is not None:
            self.account.signal(pid, number)

    def _open_running(self, flags: int) -> int:
        path = self.home / f"{self.name}.running"
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def start_somewhere(server: Server, record: Callable[[], None]) -> None:
    """Start a server on a free port, and on another one if that port is taken in the meantime.

    `record` is called between the choice of the port and the start, so that a server whose start was interrupted
    can be found. Raises the errors of `Server.start`.
    """
    for _ in range(3):
        port = server.choose_port()
        record()
        try:
            server.start()
        except Refused:
            if _is_free(port):
                raise
        else:
            return
    raise Refused(f"the embedded {server.name} found no free port", hint="try again")


def wait_until(condition: Callable[[], bool], within: timedelta) -> bool:
    """Wait until `condition` returns True; returns whether it did in time."""
    deadline = Deadline.after(within)
    while not condition():
        if deadline.passed:
            return False
        time.sleep(0.02)
    return True


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
