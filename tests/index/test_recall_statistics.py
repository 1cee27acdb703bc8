"""Recall: what counts as found, its interval, percentiles, and the smallest setting that is enough."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from pgvector_sync.index.recall.report import Iterative, Setting, SettingResult
from pgvector_sync.index.recall.statistics import (
    Z95,
    Answer,
    least_queries,
    nearest_rank,
    recall_of,
    result_of,
    smallest,
    wilson,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("exact", "answered", "k", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], 4, 1.0),
        ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.5, 0.6], 4, 0.5),
        ([0.1, 0.2, 0.3, 0.4], [], 4, 0.0),
        pytest.param([0.1, 0.2], [0.1, 0.2], 10, 1.0, id="fewer rows than k, all found"),
        pytest.param([0.1, 0.2], [0.2], 10, 0.5, id="fewer rows than k, one found"),
        pytest.param([0.1, 0.2, 0.2, 0.2], [0.1, 0.2], 2, 1.0, id="another row at the same distance"),
        pytest.param([0.0] * 5, [0.0] * 9, 3, 1.0, id="all equal: never more than all"),
        pytest.param([NAN, 0.2, NAN], [NAN, 0.2], 3, 1.0, id="rows without a distance aren't neighbours"),
        pytest.param([-3.0, -2.0], [-3.0, -1.0], 2, 0.5, id="negative inner products"),
        pytest.param([], [], 10, None, id="nothing to find"),
        pytest.param([NAN], [], 10, None, id="only rows without a distance"),
    ],
)
def test_recall_is_the_share_of_the_true_neighbours_that_was_found(exact, answered, k, expected):
    assert recall_of(exact, answered, k) == expected


@pytest.mark.parametrize(("share", "trials"), [(0.9, 10), (0.5, 100), (0.97, 200), (1.0, 200), (0.0, 200)])
def test_the_interval_contains_what_a_score_test_would_not_reject(share, trials):
    low, high = wilson(share, trials)
    assert low <= share <= high
    for bound in (low, high):
        # at a bound of Wilson's interval, the distance is exactly z standard errors
        assert abs(share - bound) == pytest.approx(Z95 * math.sqrt(bound * (1 - bound) / trials), abs=1e-9)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_a_target_can_be_reached_with_just_so_many_queries(target):
    queries = least_queries(target)
    assert wilson(1.0, queries)[0] >= target > wilson(1.0, queries - 1)[0]


def test_a_percentile_is_one_of_the_values():
    values = [float(number) for number in range(100, 0, -1)]
    assert [nearest_rank(values, percent) for percent in (0, 5, 50, 99, 100)] == [1, 5, 50, 99, 100]
    assert nearest_rank([7.0], 5) == 7.0
    assert nearest_rank([1.0, 2.0], 50) == 1.0


def test_a_mean_does_not_hide_queries_that_find_nothing():
    answers = [Answer(1.0, 10, timedelta(milliseconds=n)) for n in range(1, 95)]
    answers += [Answer(0.0, 0, timedelta(milliseconds=200))] * 6
    result = result_of(Setting("hnsw.ef_search", 40, "off"), answers, planned=True)
    assert (result.queries, result.recall_mean, result.p5, result.minimum) == (100, 0.94, 0.0, 0.0)
    assert result.low < 0.94 < result.high
    assert result.rows_returned_mean == 9.4
    assert (result.p50, result.p95, result.p99) == tuple(timedelta(milliseconds=n) for n in (50, 200, 200))


def result(value: int, iterative: Iterative, low: float) -> SettingResult:
    answer = Answer(1.0, 10, timedelta(milliseconds=1))
    measured = result_of(Setting("hnsw.ef_search", value, iterative), [answer], planned=True)
    return SettingResult(**{name: getattr(measured, name) for name in SettingResult.__slots__} | {"low": low})


def test_the_smallest_setting_reaches_the_target_by_its_lower_bound():
    results = [
        result(40, "off", 0.90),
        result(160, "off", 0.99),
        result(80, "relaxed_order", 0.97),
        result(80, "strict_order", 0.95),
        result(80, "off", 0.94),
    ]
    found = smallest(results, 0.95)
    assert found is not None
    assert (found.value, found.iterative) == (80, "strict_order")
    assert smallest(results, 0.995) is None
    assert smallest([], 0.5) is None
