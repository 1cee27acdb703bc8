"""Handling of Ctrl-C and similar signals for commands that must clean up before they exit."""

from __future__ import annotations

import logging
import signal
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_AFTER = timedelta(seconds=2)
"""Python swallows an exception that is raised in a finalizer, so it is raised again until clean-up begins."""


class Interrupts:
    """A context in which the first Ctrl-C, SIGTERM or SIGHUP raises KeyboardInterrupt.

    Later signals don't raise, so that they can't interrupt the clean-up; they only set `hurried`. From the first
    one on, psycopg gives no warnings, which would be about the interrupted statement and its connection.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._hurried = False
        self._ending = False
        self._previous_handlers: dict[signal.Signals, Any] = {}
        self._previous_alarm_handler: Any = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        self._previous_alarm_handler = signal.signal(signal.SIGALRM, self._raise_again)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous_alarm_handler)
        if self.first is not None:
            logging.getLogger("psycopg").setLevel(logging.WARNING)  # which psycopg itself sets when it is imported
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    @property
    def hurried(self) -> bool:
        """Whether another signal arrived after the first one or during the clean-up."""
        return self._hurried

    def ending(self) -> None:
        """Begin the clean-up: from now on, signals don't raise."""
        self._ending = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _raise_again(self, _number: int, _frame: FrameType | None) -> None:
        if self.first is not None and not self._ending:
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_AFTER.total_seconds())
            raise KeyboardInterrupt

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.first is None and not self._ending:
            self.first = signal.Signals(number)
            logging.getLogger("psycopg").setLevel(logging.ERROR)
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_AFTER.total_seconds())
            raise KeyboardInterrupt
        self.first = self.first or signal.Signals(number)
        self._hurried = True
