"""A moment by which something in this process ends. In the database only its own clock decides."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """The earlier of two is `min` of them."""

    at: float
    """Of `time.monotonic()`."""

    @classmethod
    def after(cls, duration: timedelta) -> Deadline:
        """So long from now."""
        return cls(time.monotonic() + duration.total_seconds())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    @property
    def left(self) -> timedelta:
        """The time until then; zero once it has passed."""
        return timedelta(seconds=max(0.0, self.at - time.monotonic()))
