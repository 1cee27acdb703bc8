"""Real processes that a test starts and kills: workers, beats and commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from support import canaries
from support.waiting import eventually

COMMAND = (sys.executable, "-m", "pgvector_sync")
"""The command line of pgvector-sync, in the interpreter that runs the tests."""


def running_in(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory is in a folder, except the tests' own process."""
    lines = []
    for process in psutil.process_iter():
        try:
            place = process.cwd()
            if process.pid != os.getpid() and Path(place).is_relative_to(folder):
                lines.append(f"{process.pid} in {place}: {' '.join(process.cmdline())}")
        except psutil.Error:  # it has ended, or belongs to another user
            continue
    return lines


class Process:
    """A process with its children, in its own process group, and its output."""

    def __init__(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.command = command
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def printed(self) -> str:
        """Standard output and standard error so far."""
        return self.log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._popen.poll()

    def wait_for(self, pattern: str | Callable[[], object], timeout: float = 30.0) -> None:
        """Waits until its output matches a regular expression, or until a predicate holds.

        Raises RuntimeError at once if the process ends before that.
        """

        def seen() -> bool:
            holds = re.search(pattern, self.printed) if isinstance(pattern, str) else pattern()
            if not holds and self.exit_code is not None:
                raise RuntimeError(f"ended with {self.exit_code} before {pattern!r}:\n{self.printed[-4000:]}")
            return bool(holds)

        eventually(seen, timeout, what=f"{pattern!r} in what {self.command} printed")

    def wait(self, timeout: float = 30.0) -> int:
        """Waits until it ends, and returns its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.command} still runs after {timeout:g} s:\n{self.printed[-4000:]}"
            ) from None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the first process only, as `kill PID` does."""
        self._popen.send_signal(number)

    def interrupt(self) -> None:
        """Sends SIGINT to the whole group, as Ctrl-C does."""
        self._signal_group(signal.SIGINT)

    def terminate(self, timeout: float = 30.0) -> int:
        """Sends SIGTERM to the first process, waits, and returns its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Sends SIGKILL to the process and all its children."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait(10)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Processes:
    """Starts processes for one test, ends them with it and prints their output, which pytest shows on failure."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        """Variables that every process of this test gets, besides the environment of the tests."""
        self.started: list[Process] = []

    def start(self, *command: str | Path, **env: str) -> Process:
        """Starts a command; `env` adds variables for this process only."""
        log = self.folder / f"process-{len(self.started)}.log"
        process = Process(command, log, {**os.environ, **self.env, **env}, self.folder)
        self.started.append(process)
        return process

    def python(self, code: str, *arguments: str, **env: str) -> Process:
        """Runs Python code in a new process of the tests' interpreter."""
        return self.start(sys.executable, "-c", code, *arguments, **env)

    def command(self, *arguments: str, **env: str) -> Process:
        """Starts `pgvector-sync` with the arguments."""
        return self.start(*COMMAND, *arguments, **env)

    def end(self) -> None:
        for process in self.started:
            process.kill()
            print(f"----- {' '.join(map(str, process.command))[:300]} (exit {process.exit_code})")
            print(process.printed[-20_000:])
            canaries.witness().ran(process.command, process.printed)
