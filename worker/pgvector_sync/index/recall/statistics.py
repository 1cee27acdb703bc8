"""Recall of single searches and of many: its interval, percentiles, and the smallest sufficient setting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from pgvector_sync.index.recall.report import ITERATIVE, Setting, SettingResult

Z95 = 1.959964
"""The quantile of the normal distribution for an interval of 95 %."""
T = TypeVar("T", float, timedelta)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one search with one setting has returned."""

    recall: float
    rows: int
    took: timedelta


def recall_of(exact: Sequence[float], answered: Sequence[float], k: int) -> float | None:
    """Return the share of the true nearest neighbours that a search has found.

    A row as near as the last of the true neighbours counts as found: which of several rows at the same distance is
    returned doesn't matter. Vectors without a distance (NaN: zeros under cosine) are never neighbours.

    exact: the distances of the nearest rows, by comparing all.
    answered: the distances of the rows that the index has returned.
    Returns None if there is no neighbour to find.
    """
    true = sorted(distance for distance in exact if not math.isnan(distance))[:k]
    if not true:
        return None
    # NaN isn't smaller than anything
    found = sum(1 for distance in answered if distance <= true[-1])
    return min(found, len(true)) / len(true)


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Return the bounds of the Wilson interval of 95 %.

    For a mean of shares, such as recall, with a query as a trial, it is conservative: shares vary less than zeros
    and ones with the same mean.
    """
    squared = Z95 * Z95 / trials
    middle = (share + squared / 2) / (1 + squared)
    half = Z95 / (1 + squared) * math.sqrt(share * (1 - share) / trials + squared / (4 * trials))
    # rounding must not exclude the mean itself
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def nearest_rank(values: Sequence[T], percent: float) -> T:
    """Return a percentile that is one of the values: the least one that `percent` of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def result_of(setting: Setting, answers: Sequence[Answer], *, planned: bool) -> SettingResult:
    """Summarize the answers with one setting, at least one."""
    shares = [answer.recall for answer in answers]
    times = [answer.took for answer in answers]
    mean = min(1.0, math.fsum(shares) / len(shares))
    low, high = wilson(mean, len(shares))
    return SettingResult(
        name=setting.name,
        value=setting.value,
        iterative=setting.iterative,
        queries=len(answers),
        recall_mean=mean,
        low=low,
        high=high,
        p5=nearest_rank(shares, 5),
        minimum=min(shares),
        rows_returned_mean=math.fsum(answer.rows for answer in answers) / len(answers),
        p50=nearest_rank(times, 50),
        p95=nearest_rank(times, 95),
        p99=nearest_rank(times, 99),
        planned=planned,
    )


def smallest(results: Iterable[SettingResult], target: float) -> SettingResult | None:
    """Return the smallest setting whose recall is at least the target, by the lower bound of the interval.

    Of several with the same value, the one that does least: without iterative scan, then in strict order.
    """
    enough = (result for result in results if result.low >= target)
    return min(enough, key=lambda each: (each.value, ITERATIVE.index(each.iterative)), default=None)


def least_queries(target: float) -> int:
    """Return how many queries the lower bound needs to reach a target below 1 if all find everything."""
    return math.ceil(target * Z95 * Z95 / (1 - target))
