"""Grows a set of vectors: copies of real ones, moved among their neighbours, as far apart as those were. Pure.

A copy is moved in a random direction of the space that a vector's nearest neighbours span, so that the set keeps
the few dimensions that real vectors have locally; noise in all dimensions makes an index look worse than it is.
How far a copy is moved is a multiple of the distance to the vector's nearest neighbour. `calibrated` chooses the
multiple with which the nearest neighbour of a copy is as far away as that of a real vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
NEIGHBOURS = 16
_ROWS_AT_ONCE = 512
_TRIED = 12
"""How many vectors' surroundings are tried out to calibrate."""
_COPIES = 50
_HALVINGS = 7
_LEAST, _MOST = 0.02, 16.0


@dataclass(frozen=True, slots=True)
class Bases:
    """Real vectors and their surroundings."""

    vectors: Vectors
    neighbours: NDArray[np.integer[Any]]
    """The places of the nearest vectors, the nearest first."""
    distances: Vectors
    """To the nearest one."""
    normalized: bool
    """Whether only directions count: a copy has the length of its vector."""


def bases_of(vectors: Vectors, *, normalized: bool) -> Bases:
    """Look up the nearest neighbours of each vector. Distances are Euclidean, among directions if `normalized`."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    compared = _directions(vectors) if normalized else vectors
    count = min(NEIGHBOURS, len(vectors) - 1)
    squares = (compared * compared).sum(axis=1)
    neighbours = np.empty((len(vectors), count), dtype=np.int64)
    distances = np.empty(len(vectors), dtype=np.float32)
    for begin in range(0, len(vectors), _ROWS_AT_ONCE):
        end = min(begin + _ROWS_AT_ONCE, len(vectors))
        apart = squares[begin:end, None] + squares[None, :] - 2 * (compared[begin:end] @ compared.T)
        apart[np.arange(end - begin), np.arange(begin, end)] = np.inf
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(apart, near, axis=1), axis=1)
        neighbours[begin:end] = np.take_along_axis(near, order, axis=1)
        nearest = np.take_along_axis(apart, neighbours[begin:end, :1], axis=1)[:, 0]
        distances[begin:end] = np.sqrt(np.maximum(nearest, 0))
    return Bases(vectors, neighbours, distances, normalized)


def copies(
    bases: Bases, chosen: NDArray[np.integer[Any]], multiple: float, random: np.random.Generator
) -> Vectors:
    """Return a moved copy of each chosen vector."""
    vectors = bases.vectors[chosen]
    weights = random.standard_normal((len(chosen), bases.neighbours.shape[1])).astype(np.float32)
    around = bases.vectors[bases.neighbours[chosen]] - vectors[:, None, :]
    moved = np.matmul(weights[:, None, :], around)[:, 0, :]
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    moved /= np.maximum(lengths, np.finfo(np.float32).tiny)
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    far = multiple * bases.distances[chosen, None] * random.uniform(0.5, 1.5, (len(chosen), 1)).astype(np.float32)
    if bases.normalized:
        return np.asarray(_directions(vectors + moved * far * size) * size, dtype=np.float32)
    return np.asarray(vectors + moved * far, dtype=np.float32)


def calibrated(bases: Bases, per_vector: float, random: np.random.Generator) -> float:
    """Return the multiple with which copies are as far apart as real vectors.

    per_vector: how many vectors there will be per real one. More than 50 are tried out as 50.
    """
    tried = random.permutation(len(bases.vectors))[:_TRIED]
    tried = tried[bases.distances[tried] > 0]
    if not len(tried):
        return 1.0  # all are equal to another one, and so are their copies
    number = max(2, min(_COPIES, round(per_vector)))
    least, most = _LEAST, _MOST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(least * most))
        if _spread(bases, tried, number, middle, random) < 1:
            least = middle
        else:
            most = middle
    return float(np.sqrt(least * most))


def _spread(
    bases: Bases, tried: NDArray[np.integer[Any]], number: int, multiple: float, random: np.random.Generator
) -> float:
    """Return how far copies are from their nearest neighbour, as a share of the real distance."""
    ratios = []
    for place in tried:
        around = np.concatenate([[place], bases.neighbours[place]])
        pool = np.concatenate(
            [bases.vectors[around], copies(bases, np.repeat(around, number - 1), multiple, random)]
        )
        own = pool[len(around) : len(around) + number - 1]
        if bases.normalized:
            pool, own = _directions(pool), _directions(own)
        apart = (own * own).sum(axis=1)[:, None] + (pool * pool).sum(axis=1)[None, :] - 2 * own @ pool.T
        apart[np.arange(len(own)), np.arange(len(own)) + len(around)] = np.inf
        ratios.append(float(np.median(np.sqrt(np.maximum(apart.min(axis=1), 0)))) / float(bases.distances[place]))
    return float(np.median(ratios))


def _directions(vectors: Vectors) -> Vectors:
    return np.asarray(
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32
    )
