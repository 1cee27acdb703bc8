"""How far a run is, and how long the rest of it will take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.model.request import Kind


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    id: int
    pipeline: str
    kind: Kind
    rows_done: int
    rows_total: int | None
    """Estimated until every row was seen."""
    elapsed: timedelta

    @property
    def share(self) -> float | None:
        """The share of its rows that are done, from 0 to 1; None if their number isn't known."""
        return min(self.rows_done / self.rows_total, 1.0) if self.rows_total else None

    def left(self, since: Progress | None = None) -> timedelta | None:
        """How long it will take at the speed that it has had since its start, or since another look at it.

        None if that can't be told: nothing is done yet, or the number of rows isn't known.
        """
        done, elapsed = self.rows_done, self.elapsed
        if since is not None:
            done, elapsed = done - since.rows_done, elapsed - since.elapsed
        if self.rows_total is None or done <= 0:
            return None
        return elapsed * min(max(self.rows_total - self.rows_done, 0) / done, 1e6)


def done_of_total(seen: int, waiting: int, total: int | None, *, walked: bool) -> tuple[int, int | None]:
    """Returns how many rows are done, of how many. The statement `metrics.runs` has the same rule.

    A row that was enqueued and still waits isn't done. The estimated total gives way to what was seen.
    """
    return max(0, seen - waiting), seen if walked else None if total is None else max(total, seen)
