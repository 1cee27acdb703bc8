"""The vector index of a pipeline, as it is declared: kind, parameters, and how it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from pgvector_sync.model.schedule import Span, Window, spellings


class Method(StrEnum):
    """The access methods of pgvector."""

    HNSW = "hnsw"
    IVFFLAT = "ivfflat"


class Storage(StrEnum):
    """What an index contains. `bit` is `binary_quantize` of a column that keeps the full vectors."""

    VECTOR = "vector"
    HALFVEC = "halfvec"
    BIT = "bit"


LARGEST_HALF = 65_504.0
"""The largest number of a halfvec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """Which index a pipeline has, when it is built, and how often its recall is measured. Times are UTC.

    To add an option to the section `index`, add a field.
    """

    method: Method | None = None
    """None: no index is built automatically."""
    storage: Storage | None = None
    """None: the type of the pipeline's column."""
    m: Annotated[int, Ge(2), Le(100)] = 16
    """HNSW: links per element and layer. The default and the range are pgvector's."""
    ef_construction: Annotated[int, Ge(4), Le(1_000)] = 64
    """HNSW: candidates per insertion. The default and the range are pgvector's."""
    lists: Annotated[int, Ge(1), Le(32_768)] | None = None
    """IVFFlat; None: as pgvector's README recommends for the number of rows at the build."""
    window: Window = None
    """Begin and end of the daily time window in which a build may begin."""
    recall: Annotated[float, Gt(0), Le(1)] = 0.95
    """The share of the true nearest neighbours that searches should find."""
    measure_every: Span = timedelta(days=1)
    """The interval between two measurements of recall; None: none."""
    database_share: Annotated[float, Gt(0), Le(1)] = 0.5
    """The maximum share of one connection's time that a measurement takes."""

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> IndexPlan:
        """Reads what `written` returns. Missing options have their defaults."""
        return cls(**{name: _READ.get(name, _as_it_is)(value) for name, value in written.items()})

    def written(self) -> dict[str, Any]:
        """Returns what differs from the defaults, as written in the file."""
        differing = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: _SPELLINGS[name].write(value) if name in _SPELLINGS else value
            for name, value in differing.items()
            if value != getattr(UNINDEXED, name)
        }

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.written().items()) or "default"


@dataclass(frozen=True, slots=True)
class SearchEffort:
    """How much of an index searches look at, at least, to reach the recall; None: pgvector's default."""

    ef_search: int | None = None
    probes: int | None = None


def _as_it_is(value: Any) -> Any:
    return value


_SPELLINGS = spellings(IndexPlan)
_READ: Mapping[str, Any] = {
    "method": Method,
    "storage": Storage,
    **{name: spelling.read for name, spelling in _SPELLINGS.items()},
}
UNINDEXED = IndexPlan()
"""The default: no index is built."""
