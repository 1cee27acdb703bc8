"""How often to look for work: 40 times per second while changes flow, and rarely while nothing happens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.store.poll import Signs

FLOWING = timedelta(milliseconds=25)
"""The pause between two looks while changes flow."""
FLOWS_FOR = timedelta(seconds=2)
"""How long after the last change they are expected to flow."""
WAITING = timedelta(milliseconds=100)
"""The pause between two turns for what was found before and not finished, such as rows that wait for a worker."""


@dataclass
class Pace:
    """Remembers when something last happened, for one relay or `sync`."""

    longest: timedelta
    """The longest pause (`PGVECTOR_SYNC_POLL`)."""
    _moved_at: float = float("-inf")
    _turned_at: float = float("-inf")
    _last: timedelta = FLOWING

    def calls_for_a_turn(self, signs: Signs) -> bool:
        """Whether to take a turn now. An event can't wait; other signs may stay until a worker has time."""
        return signs.events or (signs.any and time.monotonic() - self._turned_at >= WAITING.total_seconds())

    def turned(self, *, moved: bool) -> None:
        """Note that a turn was taken, and whether it moved anything."""
        self._turned_at = time.monotonic()
        if moved:
            self._moved_at = self._turned_at

    def pause(self, *, waiting: bool) -> timedelta:
        """Return how long to wait before the next look. `waiting` says that something is left to do."""
        if time.monotonic() - self._moved_at < FLOWS_FOR.total_seconds():
            pause = FLOWING
        else:
            pause = WAITING if waiting else self._last * 2
        self._last = min(pause, self.longest)
        return self._last
