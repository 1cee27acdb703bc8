"""Ctrl-C and its like, for commands that have to stop other processes before they end."""

from __future__ import annotations

import signal
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_AFTER = timedelta(seconds=2)
"""What a finalizer swallows, as Python does, is raised again until the stopping begins."""


class Interrupts:
    """The first Ctrl-C, SIGTERM or SIGHUP raises KeyboardInterrupt where the program is; none that comes later
    does, so that nothing breaks into the stopping: it only hurries it.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._hurried = False
        self._ending = False
        self._before: dict[signal.Signals, Any] = {}
        self._alarm_before: Any = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self._before[number] = signal.signal(number, self._on)
        self._alarm_before = signal.signal(signal.SIGALRM, self._again)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._alarm_before)
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def hurried(self) -> bool:
        """Whether the user has lost patience with the stopping."""
        return self._hurried

    def ending(self) -> None:
        """From now on nothing raises."""
        self._ending = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        if self.first is not None and not self._ending:
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_AFTER.total_seconds())
            raise KeyboardInterrupt

    def _on(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None and not self._ending:
            self.first = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_AFTER.total_seconds())
            raise KeyboardInterrupt
        self.first = self.first or signal.Signals(number)
        self._hurried = True
