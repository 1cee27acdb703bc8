"""Decide, per row, what to do with its vector after reading the row again under the lock. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pgvector_sync.model import Key, Passage
from pgvector_sync.store.rows import Look, Vector32


class Prepared(NamedTuple):
    """A row ready to be written: its passage with the vector, both None if there is nothing to store."""

    key: Key
    passage: Passage | None
    vector: Vector32 | None
    force: bool
    bought: bool = False
    """Whether this batch paid for the vector. If it can't be stored, buying it again has to be bounded."""

    @property
    def fingerprint(self) -> bytes | None:
        return None if self.passage is None else self.passage.fingerprint


@dataclass(frozen=True, slots=True)
class Decision:
    """What a write does with each row."""

    stored: dict[Key, tuple[Passage, Vector32]]
    removed: list[Key]
    unchanged: list[Key]
    superseded: set[Key]
    """Rows that another worker holds by now, or whose text has changed."""
    paid: set[Key]
    """Superseded rows that we still hold and whose text was bought. Either their event hasn't been drained yet, or
    the expression is unsteady and its texts would be bought forever."""

    @property
    def acknowledged(self) -> list[Key]:
        return [*self.stored, *self.removed, *self.unchanged]


def decide(part: Sequence[Prepared], seen: Mapping[Key, Look]) -> Decision:
    """Store a vector only if the row still has its fingerprint. A row that isn't in `seen` is no longer ours."""
    decision = Decision({}, [], [], set(), set())
    for row in part:
        now = seen.get(row.key)
        if now is None:
            decision.superseded.add(row.key)
        elif now.fingerprint is None:
            decision.removed.append(row.key)
        elif row.passage is not None and row.vector is not None and now.fingerprint == row.fingerprint:
            decision.stored[row.key] = (row.passage, row.vector)
        elif now.fingerprint == now.stored_fingerprint and not row.force:
            decision.unchanged.append(row.key)
        else:
            decision.superseded.add(row.key)
            if row.bought:
                decision.paid.add(row.key)
    return decision
