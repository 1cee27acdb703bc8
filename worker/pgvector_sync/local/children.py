"""The worker and beat processes that `up` and `demo` start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from pgvector_sync.errors import Refused
from pgvector_sync.local.embedded.server import wait_until
from pgvector_sync.local.running import ProcessLock

WORKER_STOP_TIMEOUT = timedelta(seconds=60)
"""Longer than the worker's own soft shutdown takes."""
BEAT_STOP_TIMEOUT = timedelta(seconds=5)
"""Short, since beat has nothing to finish and occasionally misses the signal."""
LAST_LINES = 15
LOG_LIMIT_BYTES = 20_000_000

# The shell writes its pid and then becomes the process, so that the pid is known even if the starting process is
# killed in between.
_WRITE_PID = 'echo $$ > "$1"; shift; exec "$@"'

_QUIET = ("-W", "ignore:You're running the worker with superuser privileges")
"""Suppresses Celery's warning, which is meant for production; `up` and `demo` as root run in a container."""


class Child:
    """`pgvector-sync <name>` with all its processes.

    It has a session of its own, so Ctrl-C in the terminal doesn't reach it, and it outlives the process that
    started it. A later process finds and stops it by its folder.
    """

    def __init__(self, name: str, folder: Path, *, stop_timeout: timedelta) -> None:
        self.name = name
        self.stop_timeout = stop_timeout
        self.log = folder / f"{name}.log"
        self._lock = ProcessLock(folder / f"{name}.running")
        self._popen: subprocess.Popen[bytes] | None = None
        self._read = 0
        """The number of bytes of the log that `new_lines` has returned."""

    @property
    def is_running(self) -> bool:
        """Whether any of its processes is alive, whichever process started it."""
        return self._lock.is_held

    @property
    def exit_code(self) -> int | None:
        """The exit code if this process started the child and it has ended; negative for a signal."""
        return None if self._popen is None else self._popen.poll()

    def start(self, *arguments: str, environment: Mapping[str, str], folder: Path) -> None:
        """Start the child in `folder`. Raises Refused if it is already running."""
        descriptor = self._lock.acquire()
        if descriptor is None:
            raise Refused(f"the {self.name} of this folder is already running")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.log, flags, 0o600), "ab") as log:
                command = [sys.executable, *_QUIET, "-m", "pgvector_sync", self.name, *arguments]
                self._popen = subprocess.Popen(
                    ["/bin/sh", "-c", _WRITE_PID, "sh", self._lock.path.resolve(), *command],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(descriptor,),
                )
        finally:
            os.close(descriptor)  # the child holds its own copy

    def request_stop(self) -> None:
        """Request a warm shutdown: the child finishes what is in flight and starts nothing new."""
        # right after a start, the pid isn't written yet
        wait_until(lambda: self._lock.pid is not None or not self.is_running, timedelta(seconds=5))
        pid = self._lock.pid
        try:
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # only its descendants are left
            self._kill()

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop the child and wait for its last process; kill it after `stop_timeout` or once `hurried` is True.

        Raises Refused if a process doesn't end.
        """
        self.request_stop()
        wait_until(lambda: not self.is_running or hurried(), self.stop_timeout)
        if self.is_running:
            self._kill()
        if not wait_until(lambda: not self.is_running, timedelta(seconds=10)):
            raise Refused(f"the {self.name} doesn't stop", hint=f"see {self.log}")
        if self._popen is not None:
            self._popen.wait()

    def _kill(self) -> None:
        # While the lock is held, a process of the group is alive, so the group's id can't have been reused.
        pid = self._lock.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def new_lines(self) -> list[str]:
        """Return the complete lines that it has logged since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        if self._read > LOG_LIMIT_BYTES:  # there is no log rotation, and the lines have been printed
            os.truncate(self.log, 0)
            self._read = 0
        return whole.decode(errors="replace").splitlines() if newline else []

    def last_lines(self) -> list[str]:
        """Return the last lines of its log."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]


def stop_all(children: Iterable[Child], *, hurried: Callable[[], bool] = lambda: False) -> None:
    """Stop all children in parallel. Raises Refused if one doesn't end."""
    children = list(children)
    for child in children:
        child.request_stop()
    for child in children:
        child.stop(hurried=hurried)
