"""What a measurement of recall takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pgvector_sync.model import Method, Storage

Iterative = Literal["off", "strict_order", "relaxed_order"]
Source = Literal["rows", "file", "logged"]
ITERATIVE: tuple[Iterative, ...] = ("off", "strict_order", "relaxed_order")
DIAL = {Method.HNSW: "hnsw.ef_search", Method.IVFFLAT: "ivfflat.probes"}
"""The setting that trades recall for speed, per method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallRequest:
    """How recall is measured."""

    k: int = 10
    queries: int = 200
    """The number of rows whose vectors are the queries, unless `vectors` are passed."""
    vectors: Sequence[Sequence[float]] | None = None
    """Query vectors of the pipeline's model; None: those of random rows."""
    source: Source = "file"
    """Where `vectors` come from."""
    where: str | None = None
    """An SQL condition over the source's columns, as in `search`."""
    sweep: bool = False
    """Measure a range of settings, instead of those in effect."""
    values: Sequence[int] | None = None
    """The values of `hnsw.ef_search` or `ivfflat.probes` to measure; None: as `sweep` says."""
    iterative: Sequence[Iterative] | None = None
    """The modes of iterative scans to measure; None: as `sweep` says."""
    target: float | None = None
    """The recall to reach; None for the pipeline's."""
    database_share: float | None = None
    """The maximum share of one connection's time; None for the pipeline's."""
    statement_timeout: timedelta | None = None
    """The time limit of one statement; None for that of `search`."""
    time_limit: timedelta | None = None
    """The time after which no further query is asked, and those so far count; None: no limit."""
    seed: int = 0
    """Chooses the rows, and the order of the searches."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of scanning a vector index."""

    name: str
    """`hnsw.ef_search` or `ivfflat.probes`."""
    value: int
    iterative: Iterative


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingResult:
    """What searches with one setting have found, and how long they took."""

    name: str
    value: int
    iterative: Iterative
    queries: int
    """The number of queries that had something to find."""
    recall_mean: float
    low: float
    """The bounds of the Wilson interval of 95 %, with a query as a trial."""
    high: float
    p5: float
    """Five percent of the queries have this recall or less."""
    minimum: float
    rows_returned_mean: float
    p50: timedelta
    p95: timedelta
    p99: timedelta
    planned: bool
    """Whether Postgres chooses the index by itself with this setting. The searches were made to use it."""


@dataclass(frozen=True, slots=True)
class MeasuredIndex:
    """The index whose recall was measured."""

    schema: str
    name: str
    method: Method
    storage: Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallReport:
    """Which share of the true nearest neighbours an index returns."""

    pipeline: str
    index: MeasuredIndex
    rows: int
    """The number of vectors that may be neighbours: those of the pipeline's model that meet the condition."""
    k: int
    where: str | None
    source_of_queries: Source
    target: float
    settings: tuple[SettingResult, ...]
    smallest: SettingResult | None
    """The smallest setting that reaches the target by the lower bound of its interval."""
    findings: tuple[str, ...]
    """What to consider when reading the figures."""
