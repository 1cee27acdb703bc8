"""Remembers when the first due row of each lane became due, so that searches can start there.

While an old snapshot holds back vacuum, the index of due rows keeps the entries of all rows that were processed
meanwhile, and a search from the beginning steps over them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.model import Lane
from pgvector_sync.model.deadline import Deadline

FULL_SEARCH_EVERY = timedelta(seconds=1)
"""How often a lane is searched from the beginning: a row may become visible late, or be locked during a search."""
SLACK = timedelta(milliseconds=250)
"""How long a transaction may take, from when its rows are due to its commit, so that a hint doesn't miss them."""
BEGINNING = float("-inf")


@dataclass
class DueHints:
    """The hints of one process. Losing them costs time only, and so does a row that a hint misses.

    Times are seconds since 1970, by the database's clock.
    """

    _known: dict[tuple[int, Lane], tuple[float, Deadline]] = field(default_factory=dict)
    """By pipeline and lane: the hint, and until when it may be used."""

    def since(self, pipeline_id: int, lane: Lane) -> float:
        """Returns where to start a search of a lane."""
        return self.all().get((pipeline_id, lane), BEGINNING)

    def all(self) -> dict[tuple[int, Lane], float]:
        """Returns where to start a search of each lane, without lanes that must be searched from the beginning."""
        return {lane: hint for lane, (hint, until) in self._known.copy().items() if not until.passed}

    def learn(self, pipeline_id: int, lane: Lane, *, since: float, due_from: float) -> None:
        """Notes that a search that started at `since` found the first row at `due_from`."""
        _, until = self._known.get((pipeline_id, lane), (BEGINNING, None))
        if since == BEGINNING or until is None:
            until = Deadline.after(FULL_SEARCH_EVERY)
        self._known[pipeline_id, lane] = (due_from - SLACK.total_seconds(), until)

    def found_nothing(self) -> None:
        """Notes that a search of all lanes from the beginning has found nothing."""
        for lane, (hint, _) in self._known.copy().items():
            self._known[lane] = (hint, Deadline.after(FULL_SEARCH_EVERY))
