"""Everything that a live view shows, read in one short transaction."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector_sync.database import Connection
from pgvector_sync.observe.judgement import Judgement, judge
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.status import Counting, PipelineStatus, statuses
from pgvector_sync.store import runs, workers
from pgvector_sync.store.runs import Progress
from pgvector_sync.store.workers import Workers

_WORST_FIRST = (Level.ERROR, Level.WARNING, Level.OK)


@dataclass(frozen=True, slots=True)
class Overview:
    """The pipelines, their running runs, and the workers."""

    workers: Workers
    pipelines: tuple[PipelineStatus, ...]
    runs: tuple[Progress, ...] = ()

    def runs_of(self, name: str) -> tuple[Progress, ...]:
        """Return the running runs of a pipeline."""
        return tuple(run for run in self.runs if run.pipeline == name)

    def judgement(self, status: PipelineStatus) -> Judgement:
        """Judge a pipeline of this overview."""
        return judge(status, in_bulk=bool(self.runs_of(status.name)))

    def worst_first(self) -> list[tuple[PipelineStatus, Judgement]]:
        """Return the pipelines that need attention, then those that are at work, then the others."""
        judged = [(status, self.judgement(status)) for status in self.pipelines]
        return sorted(judged, key=self._urgency)

    def _urgency(self, judged: tuple[PipelineStatus, Judgement]) -> tuple[int, bool, float, str]:
        status, judgement = judged
        lag = 0.0 if status.lag is None else status.lag.total_seconds()
        idle = status.settled and not self.runs_of(status.name)
        return _WORST_FIRST.index(judgement.level), idle, -lag, status.name


def read_overview(
    connection: Connection, name: str | None = None, *, counting: Counting | None = None
) -> Overview:
    """Read the overview of all pipelines, or of the named one, with three statements.

    counting: count every row instead of estimating. Raises Refused as `read_status` does.
    """
    pipelines = statuses(connection, name, counting=counting)
    return Overview(workers.alive(connection), tuple(pipelines), tuple(runs.running(connection, name)))
