"""Every deliberate break of the protocol is noticed by the scenario that it names; `mutants.py` prints the whole table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proof.breaks import MUTANTS
from proof.mutant import Mutant
from proof.noticed import Ground
from proof.scenarios import SCENARIOS
from support.servers import Database, Postgres


@pytest.fixture(scope="module")
def ground(postgres: Postgres, template: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    if postgres.version < 18:
        pytest.skip("the same checks notice a break on every version")
    with Ground(postgres, template, tmp_path_factory.mktemp("ground")) as ground:
        yield ground


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_protocol_as_it_is_passes(ground: Ground, scenario: str) -> None:
    noticed, _ = ground.attempt(Mutant("none", (), scenario), scenario)
    assert noticed is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_break_is_noticed_or_covered_by_another_defence(ground: Ground, mutant: Mutant) -> None:
    noticed, reached = ground.attempt(mutant, mutant.killer)
    assert reached == {edit.place for edit in mutant.edits}, "some broken places weren't reached"
    assert (None if noticed is None else noticed.check) == (mutant.check or None)


def test_what_covers_a_harmless_break_is_broken_with_it_in_another_mutant() -> None:
    harmless = {mutant.name: mutant for mutant in MUTANTS if mutant.harmless}
    # these are covered by Postgres itself, not by another line of ours that could be broken together with them
    alone = {"no trim of further chunks", "two drains at once", "writes under REPEATABLE READ"}
    assert {name for name, mutant in harmless.items() if not mutant.together_with} == alone
    for mutant in (mutant for name, mutant in harmless.items() if name not in alone):
        pair = next(other for other in MUTANTS if other.name == mutant.together_with)
        assert set(mutant.edits) < set(pair.edits)
        assert not pair.harmless
