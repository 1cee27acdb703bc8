"""The domain types of pgvector-sync: frozen values, independent of the database and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pgvector_sync.model.index import IndexPlan, Method, SearchEffort, Storage
from pgvector_sync.model.inputs import DocumentInput, QueryInput
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned
from pgvector_sync.model.options import OPTIONS, Effect, Metric, Option, Options, VectorType
from pgvector_sync.model.provider import Provider, Purpose
from pgvector_sync.model.schedule import Schedule, in_window
from pgvector_sync.model.spec import Spec

__all__ = [
    "OPTIONS",
    "DocumentInput",
    "Effect",
    "IndexPlan",
    "Key",
    "KeyColumn",
    "Lane",
    "Method",
    "Metric",
    "Need",
    "Option",
    "Options",
    "Pipeline",
    "Provider",
    "Purpose",
    "QueryInput",
    "Schedule",
    "SearchEffort",
    "Source",
    "Spec",
    "State",
    "Storage",
    "VectorType",
    "in_window",
]

Key = tuple[int | str, ...]
"""The values of a row's key, in the order of the key columns. The database and users see it as a JSON array, in
which numeric and date values are strings, so that no precision is lost."""


class Lane(StrEnum):
    """The queue in which a row waits."""

    LIVE = "live"
    """For the application's own changes, which always go first."""
    BULK = "bulk"
    """For backfills, re-embeds, repairs and large loads."""


class State(StrEnum):
    """The state of a pipeline, which decides whether it may call its provider."""

    ACTIVE = "active"
    BACKFILLING = "backfilling"
    """Active, with a running backfill. Derived from the run, never stored."""
    COOLING_DOWN = "cooling_down"
    """The provider is down or has asked to wait. One probe is sent at `retry_at`."""
    MISCONFIGURED = "misconfigured"
    """The API key, model or quota is wrong. One probe is sent at `retry_at`, or after `resume`."""
    PAUSED = "paused"
    """Paused by `pause`. Only `resume` ends it."""
    REMOVING = "removing"
    """`remove` is dropping the pipeline."""

    @property
    def words(self) -> str:
        """The state as a person reads it: `cooling down`, `being removed`."""
        return "being removed" if self is State.REMOVING else self.value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One column of a source's key."""

    name: str
    type: str
    """As `format_type` prints it: `bigint`, `uuid`, `character varying(40)`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A user's table whose rows are embedded. `id` is 0 until it is stored."""

    id: int
    schema: str
    table: str
    key: tuple[KeyColumn, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.table}"


class Passage(NamedTuple):
    """A text between being read from the source and being written to the target as a vector.

    There is one per row, with `chunk_no` 0, as long as rows aren't split into chunks.
    """

    key: Key
    chunk_no: int
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Need:
    """A database object outside pg_catalog that `text` or `where` needs."""

    kind: str
    """As pg_identify_object names it: `function`, `operator`, `type`, `collation`. `row` means every column."""
    schema: str
    name: str
    identity: str
    """As pg_identify_object prints it: `public.f(text)`."""

    def __str__(self) -> str:
        return f"{self.kind} {self.identity}"

    def as_json(self) -> list[str]:
        return [self.kind, self.schema, self.name, self.identity]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One source, one text, one spec, one target."""

    id: int
    name: str
    source: Source
    target_schema: str
    target_table: str
    text_sql: str
    where_sql: str | None
    """`text_sql` and `where_sql` are pinned: every name is qualified."""
    provider: Provider
    spec: Spec
    spec_version: int
    options: Options
    """As they are in the file."""
    state: State
    read_columns: tuple[str, ...] = ()
    """The columns that key, `text` and `where` read."""
    needs: tuple[Need, ...] = ()
    reason: str | None = None
    retry_at: datetime | None = None
    problem: str | None = None
    """What the schema watch found; None: no problem."""
    learned: Learned = NOTHING_LEARNED
    """What limits requests to its provider and model."""
    problem_stops: bool = False
    """Whether nothing can be embedded until the problem is fixed."""
    search_effort: SearchEffort = field(default=SearchEffort(), compare=False)
    """From the last measurement of recall that reached the target."""

    @property
    def target_label(self) -> str:
        return f"{self.target_schema}.{self.target_table}"

    @property
    def query_spec(self) -> Spec:
        """What a call for a query needs."""
        return Spec.of_queries(self.options)
