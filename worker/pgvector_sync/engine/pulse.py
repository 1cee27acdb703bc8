"""What a worker, beat or `sync` knows about itself, for `pgvector-sync probe`.

It is alive as long as the loop that does its work turns. It is ready if, besides, it can reach what it needs. The
two differ on purpose: a restart repairs a loop that hangs, and doesn't bring back a database.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from pgvector_sync.engine import pulse_socket
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.process import ProbeUnavailable

SHORTEST_LIMIT = timedelta(minutes=5)
ACCEPT_PAUSE_SECONDS = 0.1


def turn_limit(settings: Settings) -> timedelta:
    """Return how long a turn may take before the loop counts as hung.

    Statements are given up after `silence`, and a turn has several; `sync` may process a whole batch in one. It is
    generous: while a loop hangs others take over, whereas a restart during an outage would only do harm.
    """
    return max(SHORTEST_LIMIT, settings.ends_after * 2, settings.silence * 10)


class Pulse:
    """The state of a process. Threads may change and read it at the same time."""

    def __init__(self, role: str, name: str, *, limit: timedelta, needs: tuple[str, ...]) -> None:
        """`needs` are the servers that it has to reach, such as `Postgres`; none counts as reached at first."""
        self.role, self.name = role, name
        self._limit = limit
        self._problems: dict[str, str | None] = dict.fromkeys(needs, "not reached yet")
        self._turned_at = time.monotonic()

    def beat(self) -> None:
        """Note that the loop has turned."""
        self._turned_at = time.monotonic()

    def judge(self, server: str, problem: str | None) -> None:
        """Note why a server can't be used, or with None that it can."""
        self._problems[server] = problem

    def answer(self) -> bytes:
        """Return a JSON object: whether it is alive and ready, and if not, why."""
        age = time.monotonic() - self._turned_at
        problems = [f"{server}: {problem}" for server, problem in self._problems.items() if problem]
        is_live = age <= self._limit.total_seconds()
        if not is_live:
            problems.insert(0, f"its loop has not turned for {age:,.0f} s")
        content = {
            "role": self.role,
            "name": self.name,
            "pid": os.getpid(),
            "live": is_live,
            "ready": not problems,
            "turned_seconds": round(age, 3),
            "problems": problems,
        }
        return json.dumps(content).encode()


class Listener:
    """A thread that answers each connection with the state of a `Pulse`. Use it as a context."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._socket: socket.socket | None = None
        self._path = f"{pulse_socket.folder()}/{pulse.role}-{os.getpid()}{pulse_socket.SUFFIX}"

    def __enter__(self) -> Self:
        try:
            self._socket = self._listen()
        except OSError as error:
            emit(ProbeUnavailable(error=type(error)))
            return self
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._serve, args=(self._socket,), name="pgvector-sync-probe", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        listener, self._socket = self._socket, None
        if listener is not None:
            with suppress(OSError):
                Path(self._path).unlink()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            listener.close()

    def _listen(self) -> socket.socket:
        place = pulse_socket.folder()
        with suppress(FileExistsError):
            Path(place).mkdir(0o700)
        if not pulse_socket.is_private(place):
            raise PermissionError
        self._remove_dead()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._path)
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        return listener

    def _remove_dead(self) -> None:
        """Remove the sockets of processes of this role that were killed."""
        for path in pulse_socket.sockets(self._pulse.role):
            try:
                if path != self._path:
                    pulse_socket.ask(path)
                    continue
            except ConnectionRefusedError:
                pass
            except OSError:  # it lives, but doesn't answer
                continue
            with suppress(OSError):
                Path(path).unlink()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                if self._socket is not listener:  # closed
                    return
                time.sleep(ACCEPT_PAUSE_SECONDS)  # such as: too many open files
                continue
            with client, suppress(OSError):
                client.settimeout(1)
                client.sendall(self._pulse.answer())

    def _forget(self) -> None:
        """In a child process, which would otherwise keep the socket of a killed parent open."""
        listener, self._socket = self._socket, None
        if listener is not None:
            listener.close()
