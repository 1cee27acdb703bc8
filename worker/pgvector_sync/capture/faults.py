"""Compare the triggers on a source with what should be installed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pgvector_sync.store.triggers import ROW_TRIGGERS, Capture, Installed

UPDATE, TRUNCATE = "pgvector_sync_update", "pgvector_sync_truncate"


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
    signature = capture.signature()
    differences = []
    for place in expected:
        trigger = unchecked.pop(place, None)
        if trigger is None:
            differences.append(Fault(FaultKind.ABSENT if place[:2] == capture.home else FaultKind.UNSWEPT, *place))
        elif not _fires(capture, trigger):
            differences.append(Fault(FaultKind.SILENT, *place))
        elif trigger.trigger == UPDATE and not set(capture.tracked) <= set(trigger.watched):
            differences.append(Fault(FaultKind.REBOUND, *place, trigger.watched))
        elif (
            trigger.signature != signature
            or trigger.enabled != capture.enabled
            or (trigger.trigger == UPDATE and set(capture.tracked) != set(trigger.watched))
        ):
            differences.append(Fault(FaultKind.OUTDATED, *place))
    places = {capture.home, *capture.partitions}
    for place, trigger in unchecked.items():
        if place[:2] in places and not _fires(capture, trigger):
            differences.append(Fault(FaultKind.SILENT, *place))
        elif place[:2] not in places and not trigger.inherited:
            differences.append(Fault(FaultKind.STRAY, *place))
    return differences


def _fires(capture: Capture, trigger: Installed) -> bool:
    return trigger.enabled == "A" or (trigger.enabled == "O" and not capture.replicated)
