"""The worker and the beat as processes of their own, for `up` and `demo`."""

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
from pgvector_sync.local.running import Running

WORKER_PATIENCE = timedelta(seconds=60)
"""For a warm shutdown: longer than the worker's own soft one."""
BEAT_PATIENCE = timedelta(seconds=5)
"""A beat has nothing to finish, and now and then one misses the signal."""
LAST_LINES = 15
LOG_LIMIT_BYTES = 20_000_000

# The shell writes the pid before it becomes the process, so that there is no moment without it, not even if
# whoever starts the process is killed.
_WRITE_PID = 'echo $$ > "$1"; shift; exec "$@"'

_QUIET = ("-W", "ignore:You're running the worker with superuser privileges")
"""Celery's warning is for production; root on a machine where somebody tries something is a container."""


class Child:
    """`pgvector-sync <name>` with all its processes, in a session of its own: a Ctrl-C in the terminal spares it,
    and it outlives whoever started it until somebody stops it, by the folder.
    """

    def __init__(self, name: str, folder: Path, *, patience: timedelta) -> None:
        self.name = name
        self.patience = patience
        self.log = folder / f"{name}.log"
        self._running = Running(folder / f"{name}.running")
        self._popen: subprocess.Popen[bytes] | None = None
        self._read = 0
        """Bytes of the log that `new_lines` has given."""

    @property
    def is_running(self) -> bool:
        """Whether any of its processes is alive, no matter who started it."""
        return self._running.is_held

    @property
    def exit_code(self) -> int | None:
        """Of a child that this process has started; None while it runs. Negative: the signal that ended it."""
        return None if self._popen is None else self._popen.poll()

    def start(self, *arguments: str, environment: Mapping[str, str], folder: Path) -> None:
        """Starts it in `folder`. Raises Refused where it runs already."""
        descriptor = self._running.take()
        if descriptor is None:
            raise Refused(f"a {self.name} of this folder runs already")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.log, flags, 0o600), "ab") as log:
                command = [sys.executable, *_QUIET, "-m", "pgvector_sync", self.name, *arguments]
                self._popen = subprocess.Popen(
                    ["/bin/sh", "-c", _WRITE_PID, "sh", self._running.path.resolve(), *command],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(descriptor,),
                )
        finally:
            os.close(descriptor)  # the child has its own

    def ask_to_stop(self) -> None:
        """A warm shutdown: what is in flight ends, nothing new begins."""
        # it has just been started
        wait_until(lambda: self._running.pid is not None or not self.is_running, timedelta(seconds=5))
        pid = self._running.pid
        try:
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # only processes that it has started are left
            self._kill()

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stops it and waits for its last process; at once where `hurried` says so. Raises Refused if it stays."""
        self.ask_to_stop()
        wait_until(lambda: not self.is_running or hurried(), self.patience)
        if self.is_running:
            self._kill()
        if not wait_until(lambda: not self.is_running, timedelta(seconds=10)):
            raise Refused(f"the {self.name} doesn't stop", hint=f"see {self.log}")
        if self._popen is not None:
            self._popen.wait()

    def _kill(self) -> None:
        # The lock says that some process of the group lives, and as long as one does its id is nobody else's.
        pid = self._running.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def new_lines(self) -> list[str]:
        """The whole lines that it has logged since this was last asked."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        if self._read > LOG_LIMIT_BYTES:  # nobody rotates it, and it has been shown
            os.truncate(self.log, 0)
            self._read = 0
        return whole.decode(errors="replace").splitlines() if newline else []

    def last_lines(self) -> list[str]:
        """The end of its log."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]


def stop_all(children: Iterable[Child], *, hurried: Callable[[], bool] = lambda: False) -> None:
    """Stops them side by side. Raises Refused where one stays."""
    children = list(children)
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.stop(hurried=hurried)
