"""The number of rows per write transaction, learned per target and process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.halving import fewer

SLICE_TIME = timedelta(milliseconds=20)
"""Target duration of a slice, so that it stays under ~50 ms if the machine is busy or the index is cold."""
FIRST_SLICE_ROWS = 4
LARGEST_SLICE_ROWS = 512


@dataclass
class SliceSize:
    """The number of rows whose vectors are written in about SLICE_TIME, which depends on the target's index."""

    rows: int = FIRST_SLICE_ROWS

    def learn(self, count: int, took: timedelta) -> None:
        """Adapt to a slice of `count` rows. A single outlier halves the size at most.

        `took` excludes round trips, which don't depend on the size: otherwise a distant database would be written
        to row by row. A slice of less than half the size, such as the rest of a batch, doesn't shrink it unless it
        took too long: most of its time doesn't depend on its size.
        """
        if count < self.rows / 2 and took <= SLICE_TIME:
            return
        fitting = count * (SLICE_TIME / max(took, timedelta(microseconds=100)))
        self.rows = max(1, self.rows // 2, min(LARGEST_SLICE_ROWS, int(fitting), self.rows * 2))

    def cancelled(self, count: int) -> None:
        """Reduce the size after `count` rows were cancelled, for example because an index was built meanwhile."""
        self.rows = fewer(min(self.rows, count))
