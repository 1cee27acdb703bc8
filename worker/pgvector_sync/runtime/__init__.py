"""What does every step need? The settings, the database, the keeper of leases, and an embedder per provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from pgvector_sync.database import Database
from pgvector_sync.embedding.embedder import Embedder
from pgvector_sync.model import Lane, Pipeline, Provider
from pgvector_sync.runtime.admission import Admission
from pgvector_sync.runtime.keeper import Keeper
from pgvector_sync.runtime.slice_size import SliceSize
from pgvector_sync.settings import Settings
from pgvector_sync.store.due_hints import DueHints

MAX_BATCH_ROWS = 10_000
"""The maximum number of rows per batch."""


def default_batch_rows(settings: Settings, lane: Lane) -> int:
    """Return the maximum number of rows per batch of a lane, unless the pipeline has its own."""
    return settings.live_batch_size if lane is Lane.LIVE else settings.bulk_batch_size


@dataclass(frozen=True)
class Runtime:
    """The shared objects of a process, created by `bootstrap` after the fork."""

    settings: Settings
    database: Database
    embedder: Callable[[Provider], Embedder]
    keeper: Keeper = field(init=False)
    admission: Admission = field(init=False)
    fitting: dict[int, int] = field(default_factory=dict)
    """Per pipeline, how many rows' texts fit into one batch, if that was fewer than were claimed."""
    request_rows: dict[int, int] = field(default_factory=dict)
    """Per pipeline, how many texts one request has, if what was learned limits it. Batches are multiples of it."""
    due_hints: DueHints = field(default_factory=DueHints)
    """Where this process's claims start to search."""
    slice_sizes: dict[str, SliceSize] = field(default_factory=dict)
    """The measured slice size per target. Losing or sharing it does no harm."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeper", Keeper(self.database, self.settings))
        object.__setattr__(self, "admission", Admission(self.database))

    def batch_size(self, pipeline: Pipeline, lane: Lane) -> int:
        """Return the maximum number of rows per batch: the pipeline's own size, or the lane's default."""
        default = default_batch_rows(self.settings, lane)
        size = min(pipeline.options.batch_size or default, self.fitting.get(pipeline.id, MAX_BATCH_ROWS))
        request = min(self.request_rows.get(pipeline.id, 1), size)
        return size - size % request

    def slice_size(self, pipeline: Pipeline) -> SliceSize:
        """Return the number of rows that one transaction writes into the pipeline's target."""
        return self.slice_sizes.setdefault(pipeline.target_label, SliceSize())

    def learn_request(self, pipeline: Pipeline, rows: int | None) -> None:
        """Adapt the next batches to requests of so many rows; None: nothing limits requests."""
        if rows:
            self.request_rows[pipeline.id] = rows
        else:
            self.request_rows.pop(pipeline.id, None)

    def learn_size(self, pipeline: Pipeline, fitting: int, unread: int) -> None:
        """Adapt the next batch's size: no more than `fitting` rows if some were `unread`, else twice as many."""
        if unread:
            self.fitting[pipeline.id] = max(1, fitting)
        elif pipeline.id in self.fitting:
            self.fitting[pipeline.id] = min(MAX_BATCH_ROWS, self.fitting[pipeline.id] * 2)


def page_limit(runtime: Runtime) -> timedelta:
    """Time limit of a statement that reads a page. After psycopg.errors.QueryCanceled the page is made smaller."""
    return runtime.settings.page_limit


def row_limit(runtime: Runtime) -> timedelta:
    """Time limit of `text` and `where` for one row, after which the row is held responsible."""
    return runtime.settings.row_limit


def batch_limit(runtime: Runtime) -> timedelta:
    """Time limit of reading a whole batch, after which it is read in parts."""
    return min(2 * row_limit(runtime), page_limit(runtime))


def part_limit(runtime: Runtime) -> timedelta:
    """Time limit of reading a part of a batch, short enough that one slow row doesn't delay the others."""
    return row_limit(runtime) / 5
