"""Deliberate breaks of the protocol, each a few words changed in one statement or function, and what notices them.

A break that nothing notices is harmless only if another defence covers it: it is named, and the pair of both
breaks together is a mutant of its own, which must be noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proof.edits import Edit

FRESH_PLACES = ("triggers.", "declare.apply:", "store.triggers:", "database:")
"""Edits that must be there when the pipeline is applied or its connections are opened."""


@dataclass(frozen=True)
class Mutant:
    """A break; either `killer` and the check that fails in it, or `covered_by`."""

    name: str
    edits: tuple[Edit, ...]
    killer: str
    """The scenario that notices it first; of a harmless one, that which comes closest."""
    check: str = ""
    """G1, witness, exact, G11, dead letter; or `scenario`, whose own assertion it is. None of a harmless one."""
    covered_by: str = ""
    """Of a harmless break: the other defence."""
    together_with: str = ""
    """The mutant in which that one is gone as well."""

    @property
    def harmless(self) -> bool:
        return bool(self.covered_by)

    @property
    def fresh(self) -> bool:
        return any(edit.place.startswith(FRESH_PLACES) for edit in self.edits)
