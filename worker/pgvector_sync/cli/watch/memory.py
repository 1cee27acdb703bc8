"""What a watch remembers of earlier looks: speeds for a small chart, and progress for the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pgvector_sync.model.progress import Progress
from pgvector_sync.observe.live import Look

SPEEDS = 16
"""Speeds per pipeline."""
SHORTEST, LONGEST = timedelta(seconds=10), timedelta(seconds=60)
"""The age of the look from which a run's speed is measured: steady, and still current."""


class Memory:
    """The last looks at a database."""

    def __init__(self) -> None:
        self._speeds: dict[str, deque[float]] = {}
        self._progress: dict[int, deque[Progress]] = {}

    def add(self, look: Look) -> None:
        """Remember a look, and forget what is gone."""
        self._speeds = {
            status.name: self._speeds.get(status.name, deque(maxlen=SPEEDS)) for status in look.pipelines
        }
        for status in look.pipelines:
            self._speeds[status.name].append(status.rows_per_second)
        self._progress = {run.id: self._progress.get(run.id, deque()) for run in look.runs}
        for run in look.runs:
            looks = self._progress[run.id]
            looks.append(run)
            while run.elapsed - looks[0].elapsed > LONGEST:
                looks.popleft()

    @property
    def speeds(self) -> Mapping[str, Sequence[float]]:
        return {name: tuple(speeds) for name, speeds in self._speeds.items()}

    @property
    def earlier(self) -> Mapping[int, Progress]:
        """Each running run at the earliest look, if that is long enough ago to tell its speed."""
        return {
            id_: looks[0]
            for id_, looks in self._progress.items()
            if looks[-1].elapsed - looks[0].elapsed >= SHORTEST
        }
