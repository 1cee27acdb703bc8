"""What does every step need? The database, the settings, and an embedder for a provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.model import Lane, Pipeline, Provider
from pgvector_sync.runtime.keeper import Keeper
from pgvector_sync.runtime.slice_size import SliceSize
from pgvector_sync.settings import Settings

LARGEST = 10_000
"""Rows of a batch."""


@dataclass(frozen=True)
class Runtime:
    """Made by `bootstrap`, once a process, after the fork."""

    settings: Settings
    database: Database
    embedder: Callable[[Provider], Embedder]
    keeper: Keeper = field(init=False)
    fitting: dict[int, int] = field(default_factory=dict)
    """Rows of a pipeline whose texts fit into one batch, where that was fewer than were claimed."""
    slice_sizes: dict[str, SliceSize] = field(default_factory=dict)
    """Per target: only a measurement, so losing or sharing it does no harm."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeper", Keeper(self.database, self.settings))

    def batch_size(self, pipeline: Pipeline, lane: Lane) -> int:
        """Rows: the pipeline's own size, else the lane's default."""
        default = self.settings.live_batch_size if lane is Lane.LIVE else self.settings.bulk_batch_size
        return min(pipeline.options.batch_size or default, self.fitting.get(pipeline.id, LARGEST))

    def slice_size(self, pipeline: Pipeline) -> SliceSize:
        """How many rows one transaction writes into the pipeline's target."""
        return self.slice_sizes.setdefault(pipeline.target_label, SliceSize())

    def learn_size(self, pipeline: Pipeline, fitting: int, left: int) -> None:
        """After a batch was read: the next one claims no more rows than will fit, and more again when all have."""
        if left:
            self.fitting[pipeline.id] = max(1, fitting)
        elif pipeline.id in self.fitting:
            self.fitting[pipeline.id] = min(LARGEST, self.fitting[pipeline.id] * 2)


@dataclass(frozen=True, slots=True)
class Walked:
    """How a run stands after it was carried on for a while."""

    ended: bool
    again: timedelta | None = None
    """When to go on, where that isn't soon."""


def page_limit(runtime: Runtime) -> timedelta:
    """What a statement of a page may take; then psycopg.errors.QueryCanceled asks for a smaller page."""
    return runtime.settings.page_limit


def row_limit(runtime: Runtime) -> timedelta:
    """What text and `where` may take on one row, before the row is held responsible."""
    return runtime.settings.row_limit


def batch_limit(runtime: Runtime) -> timedelta:
    """What reading a whole batch may take, before it is read in parts."""
    return min(2 * row_limit(runtime), page_limit(runtime))


def probe_limit(runtime: Runtime) -> timedelta:
    """What a part of a batch may take, so that a slow row is found in time for the others."""
    return row_limit(runtime) / 5
