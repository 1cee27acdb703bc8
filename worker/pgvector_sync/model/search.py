"""What a search takes and returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pgvector_sync.model import Key


def vector_text(vector: Sequence[float]) -> str:
    """Returns pgvector's text form of a vector."""
    return f"[{','.join(map(str, vector))}]"


@dataclass(frozen=True, slots=True)
class QueryVector:
    """An embedded query. `str()` returns pgvector's text form, `[0.1,0.2]`, which every driver can send."""

    pipeline: str
    model: str
    """The model of the vectors that it may be compared with: the target's column `model` must have this value."""
    spec_version: int
    """The version of the pipeline for which it was embedded. It grows with each change that `apply` makes."""
    vector: list[float]

    def __str__(self) -> str:
        return vector_text(self.vector)


@dataclass(frozen=True, slots=True)
class Hit:
    """One row near the query, or one chunk of it. `distance` is pgvector's: smaller is nearer."""

    key: Key
    chunk_no: int
    """0 for a whole row."""
    distance: float
    similarity: float
    """Larger is nearer. Cosine: 1 - distance. L2: 1 / (1 + distance). Inner product: the product itself."""
    text: str | None
    """The text that was embedded. None if columns were requested instead."""
    model: str
    """The model of the vector, which is that of the query."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The columns that were requested, by name."""


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The result of a search: a sequence of hits, nearest first."""

    hits: tuple[Hit, ...]
    model: str
    """The model of all vectors that were compared."""
    next: str | None = None
    """What to pass as `after` for the next page. None if there is no further row."""
    complete: bool = True
    """False if fewer rows than requested were found before the time was over, so that others may be missing."""

    def __getitem__(self, index: Any) -> Any:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is searched for, besides the query. `Sync.search` explains each field."""

    k: int = 5
    where: str | None = None
    params: Mapping[str, Any] | None = None
    min_similarity: float | None = None
    after: str | None = None
    columns: Sequence[str] | None = None
    timeout: timedelta | None = None
