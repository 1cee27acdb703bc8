"""Whether a check notices a mutant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proof.arena import Arena, Violation, open_arena
from proof.edits import edited
from proof.mutant import Mutant
from proof.scenarios import FRESH, SCENARIOS
from support.servers import Database, Postgres, new_database


@dataclass(frozen=True)
class Noticed:
    check: str
    what: str
    checks: int
    """The number of checks until then."""


@dataclass
class Ground:
    """Tries mutants: all in one arena, except those that change triggers or connections, which get one each."""

    server: Postgres
    template: Database
    folder: Path

    def __post_init__(self) -> None:
        self._kept = ExitStack()
        self._arena: Arena | None = None

    @contextmanager
    def fresh(self) -> Iterator[Arena]:
        with (
            new_database(self.server, template=self.template.name) as database,
            open_arena(database, self.folder) as arena,
        ):
            yield arena

    @contextmanager
    def _used(self) -> Iterator[Arena]:
        if self._arena is None:
            self._arena = self._kept.enter_context(self.fresh())
        self._arena.reset()
        yield self._arena

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def attempt(self, mutant: Mutant, scenario: str) -> tuple[Noticed | None, set[str]]:
        """Runs a scenario on a mutant; returns what it notices, and the broken places that it reached."""
        if mutant.fresh or scenario in FRESH:
            with edited(mutant.edits) as reached, self.fresh() as arena:
                return notices(SCENARIOS[scenario], arena), reached
        with self._used() as arena, edited(mutant.edits) as reached:
            return notices(SCENARIOS[scenario], arena), reached


def notices(play: Callable[[Arena], None], arena: Arena) -> Noticed | None:
    """Runs `play` and returns the failed assertion, if there is one. Any other exception means that the mutant is invalid."""
    before = arena.counted
    try:
        play(arena)
    except Violation as violation:
        return Noticed(violation.check, str(violation), arena.counted - before)
    except AssertionError as error:
        return Noticed("scenario", str(error), arena.counted - before)
    return None
