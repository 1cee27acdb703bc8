"""The rules of `index advise`: what is chosen from which facts, and what is said if a goal is out of reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pgvector_sync.index.advice import Choice, advise
from pgvector_sync.index.capacity import Build
from pgvector_sync.index.facts import Existing, Facts, Goal, Measured
from pgvector_sync.index.sampled import Sample, sampled
from pgvector_sync.index.tuning import hnsw_tuning, probes
from pgvector_sync.model import Method, Metric, Storage
from support.real_vectors import DIMENSIONS, real_vectors

GB = 1_024**3
MILLION = Facts(
    pipeline="docs",
    vectors=1_000_000,
    source_rows=1_000_000,
    dimensions=1_536,
    metric=Metric.COSINE,
    column=Storage.VECTOR,
    sample=Sample(4_000, 4_000, 0, 1.0, 1.0, 0.995),
    growth_per_day=0,
    churn_per_day=0,
    exact=None,
    exact_limit=timedelta(seconds=2),
    cache=16 * GB,
)
"""A million rows of OpenAI's small model, on a server with a cache of 16 GB."""
NEAR = Existing(schema="public", name="near", method=Method.HNSW, storage=Storage.VECTOR)
MS = timedelta(milliseconds=1)


def advised(facts: Facts = MILLION, *, goal: Goal | None = None, **changed: Any) -> Choice:
    return advise(replace(facts, **changed), goal or Goal())


def kind(choice: Choice) -> tuple[str | None, str]:
    return choice.plan.method and choice.plan.method.value, choice.storage.value


def test_an_exact_scan_that_is_fast_enough_needs_no_index() -> None:
    choice = advised(vectors=20_000, source_rows=20_000, exact=25 * MS)
    assert kind(choice) == (None, "vector")
    assert "comparing all vectors takes 25 ms at 20,000 rows" in "\n".join(choice.reasons)
    assert choice.problems == ()


def test_growth_and_the_rest_of_a_backfill_are_planned_for() -> None:
    growing = advised(vectors=20_000, source_rows=20_000, exact=25 * MS, growth_per_day=1_000)
    assert (growing.rows, kind(growing)) == (110_000, ("hnsw", "vector"))
    assert "grows by 1,000 rows per day" in "\n".join(growing.reasons)
    filling = advised(vectors=20_000, source_rows=200_000, exact=25 * MS)
    assert (filling.rows, kind(filling)) == (200_000, ("hnsw", "vector"))
    shrinking = advised(vectors=20_000, source_rows=20_000, exact=25 * MS, growth_per_day=-1_000)
    assert shrinking.rows == 20_000


def test_a_latency_that_an_exact_scan_misses_needs_an_index() -> None:
    few = {"vectors": 20_000, "source_rows": 20_000, "exact": 25 * MS}
    assert kind(advised(**few, goal=Goal(latency=10 * MS))) == ("hnsw", "vector")
    assert kind(advised(**few, goal=Goal(latency=30 * MS))) == (None, "vector")


def test_recall_1_is_reached_by_comparing_all_vectors_only() -> None:
    choice = advised(goal=Goal(recall=1.0))
    assert kind(choice) == (None, "vector")
    [problem] = choice.problems
    assert problem.seen == "comparing all vectors takes more than 2.0 s, and 50 ms are allowed"
    assert "--recall 0.99" in problem.advice
    assert advised(exact=5 * MS, goal=Goal(recall=1.0)).problems == ()


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(16, ("hnsw", "vector")), (6, ("hnsw", "halfvec")), (1, ("hnsw", "bit"))],
)
def test_the_storage_shrinks_until_the_index_fits_into_memory(memory: int, expected: tuple[str, str]) -> None:
    choice = advised(goal=Goal(memory=memory * GB))
    assert kind(choice) == expected
    assert choice.bytes is not None
    assert choice.build_memory_bytes is not None
    assert max(choice.bytes, choice.build_memory_bytes) <= memory * GB
    assert choice.problems == ()


def test_without_a_memory_the_servers_own_guess_of_its_cache_counts() -> None:
    assert kind(advised(cache=6 * GB)) == ("hnsw", "halfvec")
    assert "effective_cache_size" in "\n".join(advised(cache=6 * GB).reasons)


def test_ivfflat_is_for_a_graph_that_does_not_fit() -> None:
    small = replace(MILLION, dimensions=256, sample=replace(MILLION.sample, bit_recall=0.8))
    choice = advised(small, goal=Goal(memory=600 * 1024**2), churn_per_day=20_000)
    assert kind(choice) == ("ivfflat", "halfvec")
    assert (choice.plan.lists, choice.setting) == (1_000, "ivfflat.probes")
    reasons = "\n".join(choice.reasons)
    assert "build it after the backfill" in reasons
    assert "2 % of the vectors change per day" in reasons
    assert "hnsw over vector needs" in reasons
    assert "one bit per number loses too much" in reasons


def test_a_memory_that_nothing_fits_into_names_what_would() -> None:
    choice = advised(goal=Goal(memory=50 * 1024**2))
    assert kind(choice) == ("hnsw", "bit"), "the smallest"
    [problem] = choice.problems
    assert "no index for 1,000,000 rows fits into 50.0 MB (--memory)" in problem.seen
    assert problem.advice.startswith("give the server ")


def test_more_dimensions_than_an_index_takes_choose_the_storage_that_takes_them() -> None:
    assert kind(advised(dimensions=3_072, cache=64 * GB)) == ("hnsw", "halfvec")
    assert kind(advised(dimensions=5_000, cache=64 * GB)) == ("hnsw", "bit")
    l2 = advised(dimensions=5_000, metric=Metric.L2)
    assert kind(l2) == (None, "vector")
    assert "no index of pgvector takes these vectors" in l2.problems[0].seen


def test_numbers_beyond_a_halfvec_are_never_halved() -> None:
    large = replace(MILLION.sample, largest=70_000.0, half_recall=None)
    choice = advised(sample=large, metric=Metric.L2, goal=Goal(memory=5 * GB))
    assert choice.storage is not Storage.HALFVEC
    assert "so writes would fail" in "\n".join(choice.reasons)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_bits_serve_directions_only(metric: Metric) -> None:
    assert kind(advised(metric=metric, goal=Goal(memory=GB))) != ("hnsw", "bit")


def test_a_halfvec_column_is_never_indexed_as_vector() -> None:
    choice = advised(column=Storage.HALFVEC)
    assert kind(choice) == ("hnsw", "halfvec")
    assert choice.plan.storage is None, "that of the column"


def test_a_higher_recall_takes_a_denser_graph_and_a_wider_search() -> None:
    steps = [hnsw_tuning(recall) for recall in (0.5, 0.9, 0.95, 0.98, 0.99, 0.999)]
    for less, more in pairwise(steps):
        assert less.m <= more.m
        assert less.ef_construction <= more.ef_construction
        assert less.ef_search <= more.ef_search
    assert all(each.ef_construction >= 2 * each.m for each in steps), "pgvector requires it"
    assert probes(100, 0.9) < probes(100, 0.95) < probes(100, 0.999) == 100
    assert probes(1, 0.95) == 1


def test_the_setting_of_searches_is_measured_if_there_is_an_index() -> None:
    before = advised()
    assert (before.setting, before.value, before.measured) == ("hnsw.ef_search", 100, False)
    assert "index recall docs --sweep" in "\n".join(before.reasons)
    enough = Measured(index="near", value=64, recall=0.97, queries=200, p95=4 * MS)
    after = advised(existing=(NEAR,), measured=enough)
    assert (after.value, after.measured, after.keep) == (64, True, NEAR)
    assert "recall 0.970 with 64 through near" in "\n".join(after.reasons)
    wide = replace(NEAR, m=12, ef_construction=200)
    kept = advised(existing=(wide,), measured=enough)
    assert (kept.keep, kept.plan.m, kept.plan.ef_construction) == (wide, 12, 200), "the file declares what exists"
    half = replace(NEAR, name="half", storage=Storage.HALFVEC)
    other = advised(existing=(NEAR, half), measured=replace(enough, index="half"))
    assert (other.keep, other.storage) == (half, Storage.HALFVEC), "what is good enough isn't built again"


def test_an_index_that_misses_the_recall_with_any_setting_gives_way_to_a_denser_one() -> None:
    never = Measured(index="near", value=None, recall=0.91, queries=200, p95=40 * MS)
    choice = advised(existing=(NEAR,), measured=never)
    assert choice.keep is None
    assert (choice.plan.m, choice.plan.ef_construction) == (32, 128)
    assert "near doesn't reach 0.95 with any setting: at most 0.910" in choice.problems[0].seen
    weak = replace(NEAR, m=4, ef_construction=16)
    assert advised(existing=(weak,), measured=never).plan.m == 16, "the advised one is denser already"


def test_a_latency_that_is_missed_is_a_problem() -> None:
    slow = Measured(index="near", value=400, recall=0.96, queries=200, p95=30 * MS)
    [problem] = advised(existing=(NEAR,), measured=slow, goal=Goal(latency=10 * MS)).problems
    assert "95 % of the searches take up to 30 ms, and 10 ms are allowed" in problem.seen
    [impossible] = advised(goal=Goal(latency=timedelta(microseconds=10))).problems
    assert "takes 1.0 ms or more" in impossible.seen
    assert "--latency-ms 5" in impossible.advice


def test_the_time_of_a_build_comes_from_a_measured_one_only() -> None:
    assert advised().build_time is None
    built = advised(build=Build(1_000_000, timedelta(minutes=20)))
    assert built.build_time == timedelta(minutes=20)


def test_a_bug_of_the_servers_pgvector_is_part_of_the_advice() -> None:
    choice = advised(pgvector="0.8.1")
    assert choice.alone
    assert "CVE-2026-3172" in "\n".join(choice.reasons)
    assert not advised(pgvector="0.8.6").alone


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"vectors": 0, "source_rows": 0, "sample": Sample(0, 0, 0, 0.0, None, None)}, "no vectors yet"),
        ({"vectors": 1, "source_rows": 1, "sample": Sample(1, 1, 0, 1.0, None, None)}, "one vector"),
        ({"sample": Sample(4_000, 1, 0, 1.0, None, None)}, "all 4,000 sampled vectors are equal"),
    ],
)
def test_vectors_that_no_index_can_order_have_a_clear_answer(changed: dict[str, Any], seen: str) -> None:
    choice = advised(**changed)
    assert kind(choice) == (None, "vector")
    [problem] = choice.problems
    assert seen in problem.seen
    assert problem.advice


def test_a_sample_of_equal_vectors_or_of_none_says_so() -> None:
    equal = sampled(np.ones((50, 8), dtype=np.float32), Metric.COSINE, candidates=8)
    assert (equal.vectors, equal.distinct, equal.half_recall, equal.bit_recall) == (50, 1, None, None)
    assert sampled(np.zeros((0, 8), dtype=np.float32), Metric.COSINE, candidates=8).vectors == 0
    zeros = np.vstack([np.zeros((3, 8)), np.eye(8)]).astype(np.float32)
    assert sampled(zeros, Metric.COSINE, candidates=8).zeros == 3


@pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")
def test_half_the_precision_keeps_the_neighbours_and_bits_lose_some() -> None:
    vectors = real_vectors(1_500)
    by_hand = _by_hand(vectors)
    for metric in Metric:
        sample = sampled(vectors, metric, candidates=2)
        assert sample.distinct > 1_450
        assert sample.half_recall is not None
        assert sample.half_recall > 0.99
        assert sample.bit_recall == pytest.approx(by_hand, abs=0.1)
    assert sampled(vectors * 1e6, Metric.L2, candidates=2).half_recall is None, "a halfvec can't have them"


def _by_hand(vectors: np.ndarray[Any, Any]) -> float:
    """The share of the ten nearest of 60 vectors that are among the twenty whose signs differ least."""
    shares = []
    for i in range(60):
        others = np.delete(np.arange(len(vectors)), i)
        nearest = others[np.argsort(-(vectors[others] @ vectors[i]))[:10]]
        differ = ((vectors[others] > 0) != (vectors[i] > 0)).sum(axis=1)
        shares.append(len(set(nearest) & set(others[np.argsort(differ)[:20]])) / 10)
    assert vectors.shape[1] == DIMENSIONS
    return float(np.mean(shares))
