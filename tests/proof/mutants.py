"""Prints a table of every deliberate break of the protocol against every kind of check.

    python tests/proof/mutants.py [--orders 25] [--examples 30] [PART OF A NAME ...]

Exits with 1 if a break isn't noticed although it isn't listed as harmless, or is noticed although it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pgvector_sync.store.migrations import migrate
from proof.arena import Arena
from proof.breaks import MUTANTS
from proof.edits import edited, verify
from proof.interleavings import PLAYS, Stage
from proof.machine import Machine
from proof.mutant import Mutant
from proof.noticed import Ground, Noticed, notices
from proof.scenarios import SCENARIOS
from support.servers import new_database, running_postgres


class Trial:
    """Tries one mutant against scenarios, interleavings and the state machine."""

    def __init__(self, ground: Ground, mutant: Mutant, orders: int, examples: int) -> None:
        self.ground, self.mutant, self.orders, self.examples = ground, mutant, orders, examples

    def by_scenarios(self) -> str:
        """The check that notices it: in the scenario that the mutant names, or for a harmless one, in any scenario."""
        names = [self.mutant.killer, *(SCENARIOS if self.mutant.harmless else ())]
        for name in names:
            noticed, _ = self.ground.attempt(self.mutant, name)
            if noticed is not None:
                return f"{noticed.check}: {name}" if noticed.check != "scenario" else name
        return ""

    def by_interleavings(self) -> str:
        """The check that notices it, and after how many orders; tries `orders` of each play."""
        taken = 0

        def run_plays(arena: Arena) -> None:
            nonlocal taken
            with ExitStack() as kept:
                stage = Stage(arena, kept)
                for play in PLAYS:
                    every = play.orders()
                    with stage.of(play) as take:
                        for order in every[:: -(-len(every) // self.orders)]:
                            taken += 1
                            take(order)

        return self._describe(self._fresh(run_plays), lambda: f"{taken} orders")

    def by_machine(self) -> str:
        """The check that notices it, and after how many runs."""
        quick = settings(
            deadline=None,
            database=None,
            derandomize=True,
            max_examples=self.examples,
            stateful_step_count=40,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )

        def run_machine(arena: Arena) -> None:
            Machine.runs = 0
            with arena.another() as second:
                run_state_machine_as_test(partial(Machine, arena, second), settings=quick)

        return self._describe(self._fresh(run_machine), lambda: f"{Machine.runs} runs")

    def _fresh(self, play: Callable[[Arena], None]) -> Noticed | None:
        with edited(self.mutant.edits), self.ground.fresh() as arena:
            return notices(play, arena)

    @staticmethod
    def _describe(noticed: Noticed | None, after: Callable[[], str]) -> str:
        return "" if noticed is None else f"{noticed.check}, {after()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=25, help="interleavings of each play")
    parser.add_argument("--examples", type=int, default=30, help="runs of the state machine")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    logging.getLogger("pgvector_sync").setLevel(logging.CRITICAL)
    for mutant in MUTANTS:
        verify(mutant.edits)
    surprises = 0
    with (
        running_postgres(18) as server,
        new_database(server) as template,
        tempfile.TemporaryDirectory() as folder,
    ):
        template.execute("CREATE EXTENSION vector")
        migrate(template.url)
        print("| mutant | scenario | interleavings | state machine | seconds |\n|---|---|---|---|---|")
        with Ground(server, template, Path(folder)) as ground:
            for mutant in MUTANTS:
                if chosen.names and not any(part in mutant.name for part in chosen.names):
                    continue
                started = time.monotonic()
                trial = Trial(ground, mutant, chosen.orders, chosen.examples)
                cells = [trial.by_scenarios(), trial.by_interleavings(), trial.by_machine()]
                surprises += any(cells) == mutant.harmless
                if mutant.harmless and not any(cells):
                    cells[0] = f"harmless: covered by {mutant.covered_by}"
                seconds = time.monotonic() - started
                print(
                    f"| {mutant.name} | {' | '.join(cell or '-' for cell in cells)} | {seconds:.0f} |", flush=True
                )
    return int(surprises > 0)


if __name__ == "__main__":
    sys.exit(main())
