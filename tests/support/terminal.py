"""A command in a pseudo-terminal of its own, as a person would start it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self

import psutil

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")


class Terminal:
    """Runs a command, and remembers all that it writes."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], *, columns: int = 100, lines: int = 30
    ) -> None:
        self.controller, terminal = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(terminal)[:4]
        self._terminal = terminal
        self._process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **env},
            preexec_fn=_take_terminal,  # noqa: PLW1509 - an ioctl, and the child execs at once
        )  # fmt: skip
        self.written = b""
        self._asked_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._terminal)
        os.close(self.controller)
        print(self.text[-3000:])

    @property
    def text(self) -> str:
        """All that was written, without escape sequences."""
        return ESCAPES.sub(b"", self.written).decode("utf-8", "replace")

    def shows(self, pattern: str, timeout: float = 20.0) -> str:
        """Waits until something new matches, and returns the match."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text[self._asked_to :])):
            assert time.monotonic() < end, f"{pattern!r} isn't shown:\n{self.text[-3000:]}"
            ready, _, _ = select.select([self.controller], [], [], 0.1)
            if ready:
                self._read()
        self._asked_to = len(self.text)
        return found[0]

    def types(self, keys: str) -> None:
        os.write(self.controller, keys.encode())

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def resize(self, columns: int, lines: int) -> None:
        """Gives the terminal another size, of which the kernel tells the command."""
        fcntl.ioctl(self.controller, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def ends(self, timeout: float = 20.0) -> int:
        """Waits until the command has ended, and returns its exit code."""
        end = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < end, f"still running:\n{self.text[-3000:]}"
            if select.select([self.controller], [], [], 0.05)[0]:
                self._read()
        while select.select([self.controller], [], [], 0)[0]:
            self._read()
        return self._process.returncode

    @property
    def stopped(self) -> bool:
        """Whether the command is suspended."""
        stopped: bool = psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        while select.select([self.controller], [], [], 0)[0]:  # all that it has written before it stopped
            self._read()
        return stopped

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: its modes, the main screen, a visible cursor."""
        modes = termios.tcgetattr(self._terminal)[:4] == self.before
        main_screen = self.written.rfind(b"\x1b[?1049l") >= self.written.rfind(b"\x1b[?1049h")
        cursor = self.written.rfind(b"\x1b[?25h") >= self.written.rfind(b"\x1b[?25l")
        return modes and main_screen and cursor

    def _read(self) -> None:
        self.written += os.read(self.controller, 65_536)


def _take_terminal() -> None:
    """Makes the terminal the controlling one, so that Ctrl-C in it sends a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
