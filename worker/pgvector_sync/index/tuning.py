"""Parameters to begin with, per recall that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Parameters of an HNSW index, and of searches through it."""

    m: int
    ef_construction: int
    ef_search: int


_STEPS = (
    (0.90, Tuning(16, 64, 40)),
    (0.95, Tuning(16, 64, 100)),
    (0.98, Tuning(16, 128, 200)),
    (0.99, Tuning(24, 128, 200)),
)
"""Measured with the vectors of real texts (docs/decisions/0091-advised-indexes.md), with room for other data.
pgvector's defaults are 16, 64 and 40."""
_MOST = Tuning(32, 200, 400)


def hnsw_tuning(recall: float) -> Tuning:
    """Return parameters that are likely to reach a recall. Only a measurement can tell."""
    return next((tuning for limit, tuning in _STEPS if recall <= limit), _MOST)


_ROOTS = ((0.90, 2.0), (0.95, 3.5), (0.98, 5.0), (0.99, 7.0))
_MOST_ROOTS = 10.0


def probes(lists: int, recall: float) -> int:
    """Return the number of lists to read: a multiple of √lists, with which pgvector's README starts.

    √lists itself found 0.84 to 0.87 of the neighbours (docs/decisions/0091-advised-indexes.md).
    """
    roots = next((roots for limit, roots in _ROOTS if recall <= limit), _MOST_ROOTS)
    return min(lists, max(1, math.ceil(roots * math.sqrt(lists))))
