"""How the triggers on a source differ from what should be installed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pgvector_sync.store.triggers import ROW_TRIGGERS, Capture, Installed

UPDATE, TRUNCATE = "pgvector_sync_update", "pgvector_sync_truncate"


class FaultKind(StrEnum):
    """How a trigger of ours differs from what should be installed."""

    ABSENT = "absent"
    """It isn't there: changes are not captured."""
    SILENT = "silent"
    """It is disabled, or doesn't fire for changes that it should: they are not captured."""
    REBOUND = "rebound"
    """It watches other columns, since some were renamed: changes are not captured."""
    UNSWEPT = "unswept"
    """A partition has no trigger for TRUNCATE, being attached since."""
    OUTDATED = "outdated"
    """It captures, in the way of another version of the program or of the table."""
    STRAY = "stray"
    """It is on another table, which had the source's name before."""


MISSING = frozenset({FaultKind.ABSENT, FaultKind.SILENT, FaultKind.REBOUND})
"""Faults under which changes are missed."""


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
    """What is absent, silent, bound to other columns, outdated or on another table, in no order that matters."""
    there = {(t.schema, t.table, t.trigger): t for t in installed}
    expected = [(*capture.home, f"pgvector_sync_{event}") for event in (*ROW_TRIGGERS, "truncate")]
    expected += [(*partition, TRUNCATE) for partition in capture.partitions]
    signature = capture.signature()
    found = []
    for place in expected:
        trigger = there.pop(place, None)
        if trigger is None:
            found.append(Fault(FaultKind.ABSENT if place[:2] == capture.home else FaultKind.UNSWEPT, *place))
        elif not _fires(capture, trigger):
            found.append(Fault(FaultKind.SILENT, *place))
        elif trigger.trigger == UPDATE and not set(capture.tracked) <= set(trigger.watched):
            found.append(Fault(FaultKind.REBOUND, *place, trigger.watched))
        elif (
            trigger.signature != signature
            or trigger.enabled != capture.enabled
            or (trigger.trigger == UPDATE and set(capture.tracked) != set(trigger.watched))
        ):
            found.append(Fault(FaultKind.OUTDATED, *place))
    places = {capture.home, *capture.partitions}
    for place, trigger in there.items():
        if place[:2] in places and not _fires(capture, trigger):
            found.append(Fault(FaultKind.SILENT, *place))
        elif place[:2] not in places and not trigger.inherited:
            found.append(Fault(FaultKind.STRAY, *place))
    return found


def _fires(capture: Capture, trigger: Installed) -> bool:
    return trigger.enabled == "A" or (trigger.enabled == "O" and not capture.replicated)
