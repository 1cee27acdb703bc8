"""`status --watch` on a terminal: draws the picture, and takes keys, until `q` or Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Self

from rich.console import Console, Group
from rich.live import Live

from pgvector_sync.cli.interrupts import Interrupts
from pgvector_sync.cli.watch.canvas import ASCII, UNICODE, Canvas
from pgvector_sync.cli.watch.memory import Memory
from pgvector_sync.cli.watch.picture import Scene, picture
from pgvector_sync.cli.watch.readings import Reader, Reading, Readings

REDRAW_EVERY = timedelta(seconds=1)
"""While nothing is read, because the age of the figures is shown."""
PATIENCE = timedelta(seconds=3)
"""How long after a reading was due its absence is shown."""


class Screen:
    """The alternate screen of a terminal. The terminal is as it was before, however the watch ends."""

    def __init__(self, console: Console, reader: Reader, every: timedelta, first: Reading) -> None:
        self._console, self._every = console, every
        self._memory = Memory()
        self._reader, self._last = reader, first
        self._trouble: str | None = None
        self._read_at = time.monotonic()
        self._take(first)

    def run(self) -> None:
        """Show the picture until `q` is pressed. Raises KeyboardInterrupt for Ctrl-C, SIGTERM and SIGHUP."""
        with Interrupts() as interrupts, _wakeups() as (woken, wake), Terminal() as terminal:
            readings = Readings(self._reader, self._every, on_reading=wake)
            live = Live(console=self._console, screen=True, auto_refresh=False, get_renderable=self._draw)
            try:
                live.start(refresh=True)
                readings.start()
                while not self._quits(terminal, woken):
                    while not readings.queue.empty():
                        self._take(readings.queue.get())
                    if terminal.suspended:
                        live.stop()
                        terminal.suspend()
                        live.start()
                    live.refresh()
            finally:
                interrupts.ending()
                readings.end()
                with suppress(OSError):  # the terminal is gone
                    live.stop()

    def _quits(self, terminal: Terminal, woken: int) -> bool:
        """Wait until there is something to do. Returns whether `q` was pressed."""
        watched = [woken] if terminal.keyboard is None else [woken, terminal.keyboard]
        ready, _, _ = select.select(watched, [], [], min(REDRAW_EVERY, self._every).total_seconds())
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
        return terminal.keyboard in ready and bool({"q", "Q"} & set(terminal.typed()))

    def _take(self, reading: Reading) -> None:
        self._trouble = reading.trouble
        if reading.look is not None:
            self._last, self._read_at = reading, time.monotonic()
            self._memory.add(reading.look)

    def _draw(self) -> Group:
        assert self._last.look is not None  # noqa: S101  the first reading has one, or there would be no screen
        age = timedelta(seconds=time.monotonic() - self._read_at)
        trouble = self._trouble or ("no answer from the database" if age > self._every + PATIENCE else None)
        scene = Scene(
            look=self._last.look,
            read_at=self._last.at.astimezone(),
            every=self._every,
            speeds=self._memory.speeds,
            earlier=self._memory.earlier,
            trouble=trouble,
            age=age,
        )
        canvas = Canvas(self._console.width, ASCII if self._console.options.ascii_only else UNICODE)
        return Group(*picture(scene, canvas, height=self._console.height))


class Terminal:
    """The keyboard, read key by key without echo. Ctrl-Z and `fg` work as in any program."""

    def __init__(self) -> None:
        self.keyboard: int | None = None
        self.suspended = False
        self._before: list[object] | None = None
        self._previous: list[tuple[signal.Signals, object]] = []

    def __enter__(self) -> Self:
        with suppress(OSError, ValueError, termios.error):
            if sys.stdin.isatty():
                self.keyboard = sys.stdin.fileno()
                self._before = termios.tcgetattr(self.keyboard)
                tty.setcbreak(self.keyboard)
        self._previous = [
            (signal.SIGTSTP, signal.signal(signal.SIGTSTP, self._on_suspend)),
            # its handler does nothing, but it wakes up the wait, and the picture is drawn in the new size
            (signal.SIGWINCH, signal.signal(signal.SIGWINCH, lambda *_: None)),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous:
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._restore()

    def typed(self) -> str:
        """Return the keys that were pressed. If there is no keyboard any more, it isn't watched again."""
        try:
            keys = os.read(self.keyboard, 4096) if self.keyboard is not None else b""
        except OSError:
            keys = b""
        if not keys:
            self.keyboard = None
        return keys.decode("latin-1")

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does, until it is continued."""
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.suspended = False
        if self.keyboard is not None:
            with suppress(OSError, termios.error):
                tty.setcbreak(self.keyboard)

    def _on_suspend(self, _number: int, _frame: FrameType | None) -> None:
        self.suspended = True

    def _restore(self) -> None:
        if self._before is not None:
            with suppress(OSError, ValueError, termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


@contextmanager
def _wakeups() -> Iterator[tuple[int, Callable[[], None]]]:
    """Yield a file descriptor that becomes readable on every signal, and a function that makes it so."""
    woken, waking = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    before = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)

    def wake() -> None:
        with suppress(OSError):  # full: it is readable already; closed: the watch has ended
            os.write(waking, b"\0")

    try:
        yield woken, wake
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(waking)
