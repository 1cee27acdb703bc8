"""Deadlines within this process. In the database, only the database's clock decides."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A point in time by which something must end. `min` returns the earlier of two."""

    at: float
    """In seconds, as `time.monotonic()` counts them."""

    @classmethod
    def after(cls, duration: timedelta) -> Deadline:
        """Returns the deadline that is `duration` from now."""
        return cls(time.monotonic() + duration.total_seconds())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    @property
    def left(self) -> timedelta:
        """The remaining time; zero once the deadline has passed."""
        return timedelta(seconds=max(0.0, self.at - time.monotonic()))
