"""Mutants: deliberate breaks of the protocol, and what notices them.

A break changes a few words in one statement or function. One that nothing notices is harmless only if another defence
covers it. That defence is named, and a mutant that breaks both together must be noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proof.edits import Edit

FRESH_PLACES = ("capture.", "declare.apply:", "store.capture:", "database:")
"""Edits in these places must be applied before the pipeline is applied or its connections are opened."""


@dataclass(frozen=True)
class Mutant:
    """A break, with either the `check` that notices it, or the defence by which it is `covered_by`."""

    name: str
    edits: tuple[Edit, ...]
    killer: str
    """The scenario that notices it first; for a harmless break, the scenario that comes closest."""
    check: str = ""
    """The check that fails: G1, witness, exact, G11, dead letter, or `scenario` for the scenario's own assertion. Empty for
    a harmless break.
    """
    covered_by: str = ""
    """The other defence, for a harmless break."""
    together_with: str = ""
    """The mutant in which the other defence is broken as well."""

    @property
    def harmless(self) -> bool:
        return bool(self.covered_by)

    @property
    def fresh(self) -> bool:
        return any(edit.place.startswith(FRESH_PLACES) for edit in self.edits)
