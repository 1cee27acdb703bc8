"""What an advice is made from: what is known about a pipeline, its vectors and its server, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pgvector_sync.index.capacity import Build
from pgvector_sync.index.known_bugs import NEWEST_KNOWN
from pgvector_sync.index.sampled import Sample
from pgvector_sync.model import Method, Metric, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """A valid index of the target that searches of the pipeline can use."""

    schema: str
    name: str
    method: Method
    storage: Storage
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None
    """None: the default of pgvector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a measurement of an index's recall has found."""

    index: str
    value: int | None
    """The smallest `ef_search` or `probes` that reaches the asked recall; None: none does."""
    recall: float
    """The mean with that value, or the best that was reached."""
    queries: int
    p95: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a pipeline, its vectors and its server."""

    pipeline: str
    vectors: int
    """Those in the target."""
    source_rows: int | None
    """As last counted for `status`; None: not known. There are more than vectors during a backfill."""
    dimensions: int
    metric: Metric
    column: Storage
    sample: Sample
    growth_per_day: float | None
    """Rows of the source. None if the history is shorter than a day."""
    churn_per_day: float | None
    """Vectors that replace others."""
    exact: timedelta | None
    """The time of a search that compares all vectors; None if it took longer than `exact_limit`."""
    exact_limit: timedelta
    cache: int
    """The server's `effective_cache_size` in bytes."""
    pgvector: str = NEWEST_KNOWN
    """The version of the library on the server."""
    bits: int = 64
    build: Build | None = None
    """A build of this pipeline's HNSW index that was measured."""
    existing: tuple[Existing, ...] = ()
    measured: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked of searches."""

    recall: float = 0.95
    latency: timedelta | None = None
    memory: int | None = None
    """Bytes that the index may take, in the cache and while it is built; None: as `effective_cache_size` says."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a goal from being reached, and what would help."""

    seen: str
    advice: str
