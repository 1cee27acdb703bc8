"""Decide: what the look under the lock allows, row by row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgvector_sync.model import Key, Passage
from pgvector_sync.store.rows import Look, Vector32


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one row brings to the write: a passage with its vector, or None: nothing to store."""

    key: Key
    passage: Passage | None
    vector: Vector32 | None
    force: bool
    bought: bool = False
    """Paid for by this batch: that it isn't stored must not lead to buying it again without a bound."""

    @property
    def fingerprint(self) -> bytes | None:
        return None if self.passage is None else self.passage.fingerprint


@dataclass(frozen=True, slots=True)
class Decision:
    """What the look under the lock allows, row by row."""

    stored: dict[Key, tuple[Passage, Vector32]]
    removed: list[Key]
    unchanged: list[Key]
    superseded: set[Key]
    """Not ours any more, or of another text by now."""
    paid: set[Key]
    """Of these, rows that are still ours and whose text was bought: an event is on its way, or the expression is
    unsteady and its text would be bought for ever."""

    @property
    def acknowledged(self) -> list[Key]:
        return [*self.stored, *self.removed, *self.unchanged]


def decide(part: Sequence[Prepared], seen: Mapping[Key, Look]) -> Decision:
    """A vector is stored only for the fingerprint that the row has now; a row not seen is not ours."""
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
