"""Changes of a key that leave its values the same: another name, or a wider type with the same canonical form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgvector_sync.model import KeyColumn
from pgvector_sync.store.shape import base_type

_INTEGERS = ("smallint", "integer", "bigint")
_STRINGS = ("character varying", "text")


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key column, before and after a change."""

    before: KeyColumn
    after: KeyColumn

    @property
    def renames(self) -> bool:
        return self.before.name != self.after.name

    @property
    def retypes(self) -> bool:
        return self.before.type != self.after.type


def key_changes(before: Sequence[KeyColumn], after: Sequence[KeyColumn]) -> tuple[KeyChange, ...] | None:
    """Returns how two keys with the same values differ; None if their values differ.

    Columns are compared by position. The same columns in another order are another key, since the stored values
    would be assigned to the wrong columns.
    """
    if len(before) != len(after):
        return None
    places = {column.name: place for place, column in enumerate(before)}
    changes = []
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        if places.get(new.name, place) != place or not (old.type == new.type or widens(old.type, new.type)):
            return None
        if old != new:
            changes.append(KeyChange(old, new))
    return tuple(changes)


def widens(before: str, after: str) -> bool:
    """Whether every value of type `before` is also one of `after`, with the same canonical form and order."""
    old, new = base_type(before), base_type(after)
    if old in _INTEGERS and new in _INTEGERS:
        return _INTEGERS.index(old) < _INTEGERS.index(new)
    if old in _STRINGS and new in _STRINGS:
        return _length(new, after) > _length(old, before) or (old, new) == ("character varying", "text")
    if old == new == "numeric":
        (whole, scale), (more, finer) = _digits(before), _digits(after)
        return whole <= more and scale <= finer
    return False


def _modifiers(type_name: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", type_name.partition("(")[2])]


def _length(base: str, type_name: str) -> float:
    """The maximum number of characters; infinity for a varchar without a limit."""
    modifiers = _modifiers(type_name) if base == "character varying" else []
    return modifiers[0] if modifiers else float("inf")


def _digits(type_name: str) -> tuple[float, float]:
    """The maximum number of digits before and after the decimal point; infinity if there is no limit."""
    modifiers = _modifiers(type_name)
    if not modifiers:
        return float("inf"), float("inf")
    precision, scale = modifiers[0], modifiers[1] if len(modifiers) > 1 else 0
    return precision - scale, scale
