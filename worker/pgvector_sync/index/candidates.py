"""Which indexes are possible for a pipeline's vectors, the preferred first, and what each takes. Pure.

Each rule names its source: pgvector's README (https://github.com/pgvector/pgvector), or a measurement of ours in
docs/decisions/0091-advised-indexes.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgvector_sync.index.facts import Facts, Goal
from pgvector_sync.index.pages import (
    MAX_INDEXED_DIMENSIONS,
    default_lists,
    hnsw_build_memory,
    hnsw_bytes,
    ivfflat_build_memory,
    ivfflat_bytes,
    value_bytes,
)
from pgvector_sync.index.phrases import share
from pgvector_sync.index.tuning import Tuning, hnsw_tuning, probes
from pgvector_sync.model import Method, Metric, Storage
from pgvector_sync.model.index import LARGEST_HALF

_GAINED_BY_RANKING = 0.05
"""What more candidates add to the recall of bits: from 100 to 400, it was 0.09 (decision 0091)."""
_WIDER_FOR_BITS = 4
_MOST_EF_SEARCH = 1_000
"""HNSW_MAX_EF_SEARCH of pgvector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A possible index."""

    method: Method
    storage: Storage
    tuning: Tuning
    bytes: int
    build: int
    """The memory that its build needs."""

    @property
    def memory(self) -> int:
        """The most that it takes, as an index or while it is built."""
        return max(self.bytes, self.build)


def candidates(facts: Facts, goal: Goal, rows: int, rejected: list[str]) -> Iterator[Candidate]:
    """Yield what is possible, the preferred first.

    The column's own type comes first, since nothing has to be converted or ranked again; then smaller ones. HNSW
    comes before IVFFlat: "better query performance … (in terms of speed-recall tradeoff)" (README, HNSW).
    """
    tuning = hnsw_tuning(goal.recall)
    storages = list(_storages(facts, goal.recall, rejected))
    for storage in storages:
        value = value_bytes(storage, facts.dimensions)
        size = hnsw_bytes(rows, value, m=tuning.m)
        graph = hnsw_build_memory(rows, value, m=tuning.m)
        yield Candidate(method=Method.HNSW, storage=storage, tuning=tuning, bytes=size, build=graph)
    for storage in storages:
        if storage is not Storage.BIT:
            lists, value = default_lists(rows), value_bytes(storage, facts.dimensions)
            size = ivfflat_bytes(rows, value, lists=lists)
            build = ivfflat_build_memory(rows, value, lists=lists, dimensions=facts.dimensions)
            yield Candidate(method=Method.IVFFLAT, storage=storage, tuning=tuning, bytes=size, build=build)


def _storages(facts: Facts, recall: float, rejected: list[str]) -> Iterator[Storage]:
    for storage in (Storage.VECTOR, Storage.HALFVEC, Storage.BIT):
        if storage is Storage.VECTOR and facts.column is not Storage.VECTOR:
            continue
        if why := _unsuitable(facts, recall, storage):
            rejected.append(why)
        else:
            yield storage


def _unsuitable(facts: Facts, recall: float, storage: Storage) -> str | None:
    """Say why an index can't have a storage.

    README: up to 2,000 dimensions for vector, 4,000 for halfvec, 64,000 for bit. One bit per number keeps the
    direction only, so it serves neither L2 nor the length in an inner product.
    """
    most = MAX_INDEXED_DIMENSIONS[storage]
    if facts.dimensions > most:
        return f"an index over {storage.value} takes at most {most:,} dimensions"
    if storage is Storage.HALFVEC and facts.sample.largest > LARGEST_HALF:
        return f"a vector has a number over {LARGEST_HALF:,.0f}, which a halfvec can't have, so writes would fail"
    if storage is Storage.BIT:
        if facts.metric is not Metric.COSINE:
            return f"one bit per number keeps the direction only, and the metric is {facts.metric.value}"
        if facts.sample.bit_recall is None:
            return "too few vectors to try one bit per number"
        if facts.sample.bit_recall < recall - _GAINED_BY_RANKING:
            return (
                f"one bit per number loses too much: of the nearest neighbours in a sample of "
                f"{facts.sample.vectors:,}, {share(facts.sample.bit_recall)} are among its candidates"
            )
    return None


def start_value(chosen: Candidate, lists: int, recall: float) -> int:
    """Return the value to begin with. With bits, `ef_search` rows are ranked again, so it is larger (0091)."""
    if chosen.method is Method.IVFFLAT:
        return probes(lists, recall)
    wide = _WIDER_FOR_BITS if chosen.storage is Storage.BIT else 1
    return min(_MOST_EF_SEARCH, wide * chosen.tuning.ef_search)
