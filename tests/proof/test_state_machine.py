"""Runs application, workers, drain, backfill and clock in random orders chosen by Hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from proof.arena import Arena
from proof.machine import Machine

EXAMPLES = int(os.environ.get("PGVECTOR_SYNC_TEST_EXAMPLES", "500"))
USUAL = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def machine(arena: Arena) -> Iterator[partial[Machine]]:
    with arena.another() as second:
        yield partial(Machine, arena, second)


def test_a_few_runs(machine: partial[Machine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(USUAL, max_examples=4, stateful_step_count=30, derandomize=True)
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_runs(machine: partial[Machine]) -> None:
    run_state_machine_as_test(machine, settings=settings(USUAL, max_examples=EXAMPLES, stateful_step_count=60))
