"""What the embedded Postgres and Valkey have in common: a home, a port, a password, a start and a stop."""

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
from pgvector_sync.model.deadline import Deadline

PATIENCE = timedelta(seconds=60)
"""Seconds that a start or a stop may take."""


class Server(ABC):
    """One server on 127.0.0.1, detached from whoever started it.

    Whether it runs is told by a lock on `home/<name>.running`, which all its processes inherit and none
    gives back. A pid file can't tell: after a kill -9, a reboot or in a new container its number belongs to
    anybody, and a zombie still has one.
    """

    name: str

    def __init__(self, home: Path, account: Account, *, password: str, port: int = 0) -> None:
        self.home = home
        self.account = account
        self.password = password
        self.port = port
        """Of the last start, tried again at the next one; 0 means any."""
        self.log = home / f"{self.name}.log"

    @property
    @abstractmethod
    def url(self) -> str:
        """How clients connect. Holds the password."""

    @abstractmethod
    def _launch(self, running: int) -> None:
        """Starts the daemon, which inherits the descriptor `running`. Raises Refused where it can't."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client can connect."""

    def renew(self) -> None:  # noqa: B027 - most passwords can't be exchanged
        """Another password for the next launch, where clients say it as it is."""

    def _listens(self, _since: int) -> bool:
        """Whether the server says that the port is its own, in the log after so many bytes."""
        return True

    @property
    @abstractmethod
    def _pid_file(self) -> Path:
        """Its first line is the daemon's pid."""

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is alive, ready or not."""
        with suppress(FileNotFoundError):
            descriptor = self._open_running(os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    @property
    def is_ready(self) -> bool:
        """Whether it runs and a client can connect."""
        return self.is_running and self._answers()

    @property
    def pid(self) -> int | None:
        """The daemon's pid, None where none runs."""
        if not self.is_running:
            return None
        try:
            return int(self._pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def choose_port(self) -> int:
        """Takes the last port if it is free, else another one: who has it by now may have heard the password."""
        if self.is_running:
            return self.port
        if self.port == 0 or not _is_free(self.port):
            self.renew()
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
        return self.port

    def start(self) -> None:
        """Starts it on `self.port` and waits until a client can connect; does nothing where one can already.

        Raises Refused, with what the server logged about it, where it dies or isn't ready in time.
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
            # In this order: before the server has the port, whoever answers there is another.
            settled = partial(self._settled, launched)
            if wait_until(settled, PATIENCE) and self.is_running:
                return
        except BaseException:
            self.stop(at_once=True)
            raise
        died = not self.is_running
        self.stop(at_once=True)
        # What it logged since the start: older lines may quote rows.
        words = self._said(logged).decode(errors="replace").strip()
        raise Refused(
            f"the embedded {self.name} {'ended' if died else 'was not ready'} at its start: {words[-1000:]}",
            hint=f"see {self.log}",
        )

    def _settled(self, launched: int) -> bool:
        return not self.is_running or (self._listens(launched) and self._answers())

    def _said(self, since: int) -> bytes:
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(since)
            return file.read()
        return b""

    def stop(self, *, at_once: bool = False) -> bool:
        """Stops it and waits until its last process is gone; False where none ran.

        `at_once` leaves the tidying up to the next start. Raises Refused where a process doesn't end.
        """
        if not self.is_running:
            return False
        self._signal(self._signals[1 if at_once else 0])
        if not wait_until(lambda: not self.is_running, PATIENCE):
            self._signal(self._signals[1])
            if not wait_until(lambda: not self.is_running, timedelta(seconds=10)):
                raise Refused(f"the embedded {self.name} doesn't stop", hint=f"see {self.log}")
        return True

    _signals = (signal.SIGTERM, signal.SIGKILL)
    """How to end it, in an orderly way and at once."""

    def _signal(self, number: signal.Signals) -> None:
        # it has just been launched
        wait_until(lambda: self.pid is not None or not self.is_running, timedelta(seconds=5))
        pid = self.pid
        if pid is not None:
            self.account.signal(pid, number)

    def _open_running(self, flags: int) -> int:
        path = self.home / f"{self.name}.running"
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def start_somewhere(server: Server, record: Callable[[], None]) -> None:
    """Starts a server on a free port, on another one if that is taken meanwhile.

    `record` is called between the choice of the port and the start, so that a start that is interrupted
    can be found again. Raises what `Server.start` raises.
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
    """Whether the condition came true in time."""
    end = Deadline.after(within)
    while not condition():
        if end.passed:
            return False
        time.sleep(0.02)
    return True


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
