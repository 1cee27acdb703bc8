"""Everything that a live view shows, read in one short transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgvector_sync.database import Connection
from pgvector_sync.model.progress import Progress
from pgvector_sync.observe import todo
from pgvector_sync.observe.finding import Check
from pgvector_sync.observe.status import Counting, PipelineStatus, statuses
from pgvector_sync.store import overview, runs, workers
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.workers import Workers


@dataclass(frozen=True, slots=True)
class Look:
    """The pipelines, their running runs, and the workers, as they were at one moment."""

    workers: Workers
    pipelines: tuple[PipelineStatus, ...]
    runs: tuple[Progress, ...] = ()
    drift: dict[str, Figures] = field(default_factory=dict)
    """What the last reconciliation of each pipeline found, by name."""
    redis: bool = False
    """Whether beat is needed. It isn't with `sync`."""

    def runs_of(self, name: str) -> tuple[Progress, ...]:
        """Return the running runs of a pipeline."""
        return tuple(run for run in self.runs if run.pipeline == name)

    def todo(self, status: PipelineStatus) -> list[Check]:
        """Return what to do about a pipeline of this look."""
        return todo.of_pipeline(
            status,
            self.drift.get(status.name),
            workers=self.workers.slots > 0,
            in_bulk=bool(self.runs_of(status.name)),
        )

    def state_of_workers(self) -> list[Check]:
        """Say how many workers are running, and whether beat ticks."""
        return todo.state_of_workers(self.workers, self.pipelines, redis=self.redis)

    def worst_first(self) -> list[tuple[PipelineStatus, list[Check]]]:
        """Return the pipelines with what to do about them, in the order of the status page."""
        judged = [(status, self.todo(status)) for status in self.pipelines]
        return sorted(judged, key=lambda item: todo.urgency(*item))


def look(
    connection: Connection, name: str | None = None, *, redis: bool = False, counting: Counting | None = None
) -> Look:
    """Look at all pipelines, or at the named one, with four statements.

    counting: count every row instead of estimating. Raises Refused as `read_status` does.
    """
    return Look(
        pipelines=tuple(statuses(connection, name, counting=counting)),
        workers=workers.alive(connection),
        runs=tuple(runs.running(connection, name)),
        drift=overview.last_drift(connection, name),
        redis=redis,
    )
