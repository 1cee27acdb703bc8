"""What a sample of a pipeline's vectors says: whether they differ, fit into a halfvec, and can do with bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pgvector_sync.model import Metric
from pgvector_sync.model.index import LARGEST_HALF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

QUERIES = 100
NEIGHBOURS = 10
LEAST = 20
"""With fewer vectors than this, nearly all of them are candidates."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A random sample of a pipeline's vectors."""

    vectors: int
    distinct: int
    zeros: int
    """Vectors of zeros only, which have no distance to any other by cosine."""
    largest: float
    """The largest number in any of them, without its sign."""
    half_recall: float | None
    """The share of the nearest neighbours that are the same with half the precision; None: too few vectors."""
    bit_recall: float | None
    """The share of the nearest neighbours that are among the candidates by one bit per number; None: too few."""


def sampled(vectors: Vectors, metric: Metric, *, candidates: int) -> Sample:
    """Compute what a sample says.

    candidates: per neighbour, how many vectors a search through an index over bits compares exactly.
    """
    if not len(vectors):
        return Sample(0, 0, 0, 0.0, None, None)
    vectors = np.asarray(vectors, dtype=np.float32)
    different = np.unique(vectors, axis=0)
    largest = float(np.abs(vectors).max())
    half = bit = None
    if len(different) >= LEAST:
        queries = np.random.default_rng(0).permutation(len(different))[:QUERIES]
        exact = _nearest(_similarity(different, different[queries], metric), queries, NEIGHBOURS)
        if largest <= LARGEST_HALF:
            rounded = different.astype(np.float16).astype(np.float32)
            half = _shared(exact, _nearest(_similarity(rounded, rounded[queries], metric), queries, NEIGHBOURS))
        signs = np.where(different > 0, 1, -1).astype(np.float32)
        bit = _shared(exact, _nearest(signs[queries] @ signs.T, queries, candidates * NEIGHBOURS))
    return Sample(len(vectors), len(different), int((~vectors.any(axis=1)).sum()), largest, half, bit)


def _similarity(vectors: Vectors, queries: Vectors, metric: Metric) -> Vectors:
    """Return a number per query and vector that is larger for nearer ones."""
    products: Vectors = queries @ vectors.T
    if metric is Metric.INNER_PRODUCT:
        return products
    squares = (vectors * vectors).sum(axis=1)
    if metric is Metric.COSINE:
        cosine: Vectors = products / np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
        return cosine
    nearness: Vectors = 2 * products - squares
    return nearness


def _nearest(similarity: Vectors, queries: NDArray[np.integer[Any]], count: int) -> NDArray[np.integer[Any]]:
    """Return the places of the nearest vectors of each query, without the query itself."""
    similarity[np.arange(len(queries)), queries] = -np.inf
    count = min(count, similarity.shape[1] - 1)
    return np.argpartition(-similarity, count - 1, axis=1)[:, :count]


def _shared(exact: NDArray[np.integer[Any]], chosen: NDArray[np.integer[Any]]) -> float:
    shared = sum(len(np.intersect1d(*each)) for each in zip(exact, chosen, strict=True))
    return round(shared / exact.size, 3)
