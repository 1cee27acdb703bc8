"""Every order of the protocol's steps in several sessions, with coverage and witness checked after each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from proof.arena import Arena
from proof.interleavings import PLAYS, Play, Stage, Step, independent

SAMPLE = 5
"""The number of orders of each play that `make test` runs, evenly spread over all orders."""


@pytest.fixture
def stage(arena: Arena) -> Iterator[Stage]:
    with ExitStack() as kept:
        yield Stage(arena, kept)


def test_a_sample_of_the_orders_of_every_play(stage: Stage) -> None:
    for play in PLAYS:
        every = play.orders()
        _take(stage, play, every[:: -(-len(every) // SAMPLE)])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
def test_every_order(stage: Stage, play: Play) -> None:
    every = play.orders()
    waited = _take(stage, play, every)
    print(f"{play.name}: {len(every):,} orders, in {waited:,} of them the application waited for a worker's write")


def test_orders_are_all_of_those_that_differ() -> None:
    """Compares their number with that of all merges after a normalization that makes equivalent orders equal."""
    plays = {play.name: play for play in PLAYS}
    for play in (plays["keys that move"], plays["two workers"]):
        assert len(play.orders()) == len({_normalized(play, merged) for merged in _merges(play.steps, play.first)})


def _take(stage: Stage, play: Play, orders: Sequence[tuple[Step, ...]]) -> int:
    waited = 0
    with stage.of(play) as take:
        for order in orders:
            try:
                waited += bool(take(order))
            except AssertionError as violation:
                raise AssertionError("\n".join([f"{play.name}: {violation}", *map(str, order)])) from violation
    return waited


def _merges(
    steps: Sequence[Sequence[Step]], first: Sequence[tuple[str, str]], done: tuple[Step, ...] = ()
) -> Iterator[tuple[Step, ...]]:
    if not any(steps):
        names = [str(step) for step in done]
        if all(names.index(earlier) < names.index(later) for earlier, later in first):
            yield done
    for place, own in enumerate(steps):
        if own:
            yield from _merges([*steps[:place], own[1:], *steps[place + 1 :]], first, (*done, own[0]))


def _normalized(play: Play, order: tuple[Step, ...]) -> tuple[Step, ...]:
    """The first of all equivalent orders by the sequence of the actors: repeatedly takes the least step that can come next."""
    rank = {own[0].actor: place for place, own in enumerate(play.steps)}
    left, normalized = list(order), []
    while left:
        able = [
            step for place, step in enumerate(left) if all(independent(before, step) for before in left[:place])
        ]
        normalized.append(min(able, key=lambda step: rank[step.actor]))
        left.remove(normalized[-1])
    return tuple(normalized)
