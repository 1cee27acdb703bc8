"""How many rows one write transaction takes. Learned per target, and kept by the process that writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.halving import fewer

SLICE_TIME = timedelta(milliseconds=20)
"""What a slice should take, so that it stays under ~50 ms when the machine is busy or the index is cold."""
FIRST_SLICE_ROWS = 4
LARGEST_SLICE_ROWS = 512


@dataclass
class SliceSize:
    """Adapts to the index of the target: rows a slice whose writing takes about SLICE_TIME.

    `took` is the writing alone, without the round trip: what every slice costs whatever its size must not make
    slices smaller, or a distant database would be written to row by row. One odd measurement at most halves.
    """

    rows: int = FIRST_SLICE_ROWS

    def learn(self, count: int, took: timedelta) -> None:
        fitting = count * (SLICE_TIME / max(took, timedelta(microseconds=100)))
        self.rows = max(1, self.rows // 2, min(LARGEST_SLICE_ROWS, int(fitting), self.rows * 2))

    def cancelled(self, count: int) -> None:
        """`count` rows took too long, nobody knows how long: an index was built since, say, and what took 0.04 ms
        a row takes 6 now.
        """
        self.rows = fewer(min(self.rows, count))
