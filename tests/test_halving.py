"""Halving: every culprit is found, every other item passes once, and the number of tries has a bound."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgvector_sync.halving import Parts, ever_fewer, fewer

COUNTS = st.integers(min_value=0, max_value=300)
SIZES = st.none() | st.integers(min_value=1, max_value=20)


@st.composite
def batches(draw: st.DrawFn) -> tuple[int, set[int]]:
    """A number of items, and the culprits among them."""
    count = draw(COUNTS)
    return count, draw(st.sets(st.integers(0, max(0, count - 1)), max_size=min(count, 6)))


def search(
    count: int, culprits: set[int], *, size: int | None = None, last: bool = False, most: int | None = None
) -> tuple[list[list[int]], list[int], list[int]]:
    """All tries, what passed, and what was found to be a culprit, in order."""
    parts = Parts(range(count))
    tries, passed, found = [], [], []
    while part := parts.take(most):
        tries.append(part)
        if not culprits.intersection(part):
            passed += part
        elif not parts.cut(part, size=size, last=last):
            found += part
    return tries, passed, found


@given(batches(), SIZES, st.booleans(), SIZES)
def test_every_culprit_is_found_and_every_other_item_passes_once(
    batch: tuple[int, set[int]], size: int | None, last: bool, most: int | None
) -> None:
    count, culprits = batch
    _, passed, found = search(count, culprits, size=size, last=last, most=most)
    assert sorted(found) == sorted(culprits)
    assert sorted(passed) == sorted(set(range(count)) - culprits)


@given(batches())
def test_halving_costs_twice_the_logarithm_for_each_culprit(batch: tuple[int, set[int]]) -> None:
    count, culprits = batch
    tries, _, _ = search(count, culprits)
    assert len(tries) <= 1 + 2 * len(culprits) * math.ceil(math.log2(max(1, count)))


def test_one_culprit_in_256_items_costs_16_further_tries_wherever_it_is() -> None:
    assert {len(search(256, {culprit})[0]) for culprit in range(256)} == {1 + 16}


def test_without_a_culprit_there_is_one_try() -> None:
    assert search(256, set())[0] == [list(range(256))]


@given(batches())
def test_items_are_tried_in_their_order(batch: tuple[int, set[int]]) -> None:
    tries, _, _ = search(*batch)
    for before, after in pairwise(tries):
        assert after[0] in {before[0], before[-1] + 1}


@given(batches())
def test_put_off_parts_come_the_largest_first(batch: tuple[int, set[int]]) -> None:
    """So all items of large parts pass before the last culprit is alone."""
    count, culprits = batch
    sizes = [len(part) for part in search(count, culprits, last=True)[0]]
    assert all(after <= before + 1 for before, after in pairwise(sizes))


@given(st.integers(2, 300), st.integers(1, 400))
def test_a_cut_into_parts_of_a_size_makes_each_of_them_smaller(count: int, size: int) -> None:
    parts = Parts(range(count))
    whole = parts.take()
    assert parts.cut(whole, size=size)
    cut = []
    while part := parts.take():
        cut.append(part)
    assert [item for part in cut for item in part] == whole
    assert all(len(part) == min(size, count - 1) for part in cut[:-1])
    assert len(cut) > 1


def test_a_single_item_is_not_cut() -> None:
    parts: Parts[int] = Parts()
    assert not parts.cut([7])
    assert not parts
    assert parts.take() == []


def test_what_is_put_back_comes_next_or_last() -> None:
    parts = Parts([3, 4])
    parts.put_back([1, 2])
    parts.put_back([5], last=True)
    assert list(parts) == [1, 2, 3, 4, 5]
    assert [parts.take(), parts.take(), parts.take()] == [[1, 2], [3, 4], [5]]


def test_the_rest_of_a_part_comes_before_other_parts() -> None:
    parts = Parts([1, 2, 3])
    parts.put_back([4], last=True)
    assert [parts.take(2), parts.take(2), parts.take(2)] == [[1, 2], [3], [4]]


@given(st.integers(1, 10_000), st.integers(2, 10))
def test_pages_shrink_by_their_factor_down_to_one_row(size: int, factor: int) -> None:
    sizes = list(ever_fewer(size, factor=factor))
    assert sizes[0] == size
    assert sizes[-1] == 1
    assert all(after == fewer(before, factor=factor) < before for before, after in pairwise(sizes))
