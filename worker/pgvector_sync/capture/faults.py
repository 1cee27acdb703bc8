"""Compare the triggers on a source with what should be installed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pgvector_sync.store.capture import REMOVE, ROW_TRIGGERS, Capture
from pgvector_sync.store.triggers import Installed

UPDATE, TRUNCATE, DELETE_VECTORS = "pgvector_sync_update", "pgvector_sync_truncate", f"pgvector_sync_{REMOVE}"


class FaultKind(StrEnum):
    """How one of our triggers differs from what should be installed."""

    ABSENT = "absent"
    """It is missing: changes are not captured."""
    SILENT = "silent"
    """It is disabled, or doesn't fire for replicated changes: they are not captured."""
    REBOUND = "rebound"
    """It watches other columns, because some were renamed: changes are not captured."""
    UNSWEPT = "unswept"
    """A partition that was attached later has no trigger for TRUNCATE."""
    OUTDATED = "outdated"
    """It captures changes, but was made by another version of the program or for another form of the table."""
    DELAYED = "delayed"
    """The trigger that deletes vectors is missing or disabled: the drain deletes them, and no change is lost."""
    STRAY = "stray"
    """It is on another table, which used to have the source's name."""


MISSING = frozenset({FaultKind.ABSENT, FaultKind.SILENT, FaultKind.REBOUND})
"""Faults that lose changes."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    schema: str
    table: str
    trigger: str
    watched: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.schema}.{self.table}"

    def __str__(self) -> str:
        return f"{self.trigger} on {self.place}"


def faults(capture: Capture, installed: Iterable[Installed]) -> list[Fault]:
    """Return every difference between `installed` and what `capture` needs. The order has no meaning."""
    unchecked = {(t.schema, t.table, t.trigger): t for t in installed}
    expected = [(*capture.home, f"pgvector_sync_{event}") for event in (*ROW_TRIGGERS, "truncate")]
    expected += [(*partition, TRUNCATE) for partition in capture.partitions]
    if capture.removes_by_statement:
        expected.append((*capture.home, DELETE_VECTORS))
    signature = capture.signature()
    differences = [_fault(capture, signature, place, unchecked.pop(place, None)) for place in expected]
    places = {capture.home, *capture.partitions}
    for place, trigger in unchecked.items():
        if place[:2] in places and not _fires(capture, trigger):
            differences.append(Fault(FaultKind.SILENT, *place))
        elif place[:2] not in places and not trigger.inherited:
            differences.append(Fault(FaultKind.STRAY, *place))
    return [fault for fault in differences if fault is not None]


def _fault(
    capture: Capture, signature: str, place: tuple[str, str, str], trigger: Installed | None
) -> Fault | None:
    """Return how a trigger that is needed at `place` differs, if it does."""
    if trigger is None or not _fires(capture, trigger):
        if place[2] == DELETE_VECTORS:
            return Fault(FaultKind.DELAYED, *place)
        if trigger is not None:
            return Fault(FaultKind.SILENT, *place)
        return Fault(FaultKind.ABSENT if place[:2] == capture.home else FaultKind.UNSWEPT, *place)
    watched, tracked = set(trigger.watched), set(capture.tracked)
    if trigger.trigger == UPDATE and not tracked <= watched:
        return Fault(FaultKind.REBOUND, *place, trigger.watched)
    outdated = trigger.signature != signature or trigger.enabled != capture.enabled
    if outdated or (trigger.trigger == UPDATE and tracked != watched):
        return Fault(FaultKind.OUTDATED, *place)
    return None


def _fires(capture: Capture, trigger: Installed) -> bool:
    return trigger.enabled == "A" or (trigger.enabled == "O" and not capture.replicated)
