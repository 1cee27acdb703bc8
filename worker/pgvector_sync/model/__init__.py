"""The nouns of pgvector-sync: plain frozen values without a database or a network behind them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from annotated_types import Ge

from pgvector_sync.model.options import OPTIONS, Effect, Metric, Option, Options, VectorType
from pgvector_sync.model.schedule import Schedule, in_window

__all__ = [
    "OPTIONS",
    "Effect",
    "Key",
    "KeyColumn",
    "Lane",
    "Metric",
    "Need",
    "Option",
    "Options",
    "Pipeline",
    "Provider",
    "Purpose",
    "Schedule",
    "Source",
    "Spec",
    "State",
    "VectorType",
    "in_window",
]

Key = tuple[int | str, ...]
"""A row's key in key-column order. In the database and towards users it is a JSON array; numeric and
date are strings in it, so that no precision is lost."""


class Lane(StrEnum):
    """Which queue a row waits in."""

    LIVE = "live"
    """Changes the application has just made; always first."""
    BULK = "bulk"
    """Backfills and re-embeds."""


class State(StrEnum):
    """What a pipeline is doing, and whether it may call its provider."""

    ACTIVE = "active"
    BACKFILLING = "backfilling"
    """Active, with a backfill still running; derived from the run, never stored."""
    COOLING_DOWN = "cooling_down"
    """The provider asked for a pause or is down; one probe at `retry_at`."""
    MISCONFIGURED = "misconfigured"
    """Key, model or quota are wrong; one probe at `retry_at`, or `resume`."""
    PAUSED = "paused"
    """Somebody asked for it; only `resume` ends it."""
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class KeyColumn:
    name: str
    type: str
    """As `format_type` prints it: `bigint`, `uuid`, `character varying(40)`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A user's table. `id` is 0 until it is stored."""

    id: int
    schema: str
    table: str
    key: tuple[KeyColumn, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.table}"


class Purpose(StrEnum):
    """What a text is embedded for. Many models treat the two differently."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where and how to embed; never a secret. `dialect` says how it is spoken to, see `embedding/dialects`.

    A field is all that an option of a provider needs besides a column of its name in `pgvector_sync.provider`.
    """

    name: str
    base_url: str | None = None
    api_key_env: str | None = None
    requests_per_minute: Annotated[int, Ge(1)] | None = None
    tokens_per_minute: Annotated[int, Ge(1)] | None = None
    send_dimensions: bool = True
    encoding: Literal["base64", "float"] = "base64"
    """What is asked for as `encoding_format`."""
    dialect: str = "openai"


@dataclass(frozen=True, slots=True)
class Spec:
    """What decides a vector besides the text: a change of any of these makes every vector stale."""

    model: str
    dimensions: int
    chunking: str | None = None

    @property
    def digest(self) -> bytes:
        """32 bytes that stand before the text in every fingerprint; fixed length, so nothing can run together."""
        fields = {"chunking": self.chunking, "dimensions": self.dimensions, "model": self.model}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class Passage:
    """A text on its way from the source to the target: what travels between read and write.

    One per row, with the number 0, as long as rows are not cut into chunks.
    """

    key: Key
    chunk_no: int
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Need:
    """What text and `where` name outside of pg_catalog."""

    kind: str
    """As pg_identify_object says: `function`, `operator`, `type`, `collation`; `row`: every column."""
    schema: str
    name: str
    identity: str
    """`public.f(text)`"""

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
    """Both pinned: every name is qualified."""
    provider: Provider
    spec: Spec
    spec_version: int
    options: Options
    """As the file has them."""
    state: State
    read_columns: tuple[str, ...] = ()
    """What key, text and `where` read."""
    needs: tuple[Need, ...] = ()
    reason: str | None = None
    retry_at: datetime | None = None
    problem: str | None = None
    """What the schema watch has found."""
    problem_stops: bool = False
    """Nothing can be embedded until it is repaired."""

    @property
    def target_label(self) -> str:
        return f"{self.target_schema}.{self.target_table}"
