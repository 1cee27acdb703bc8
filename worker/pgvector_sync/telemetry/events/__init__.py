"""Every event there is, one file per subject and one frozen object per thing that happened.

Dashboards and alerts depend on an event's name and on the names of its fields: add to them, never rename one.
Several events share a name where the same thing is known in different ways. docs/events.md lists them all.
"""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.events import batch, capture, dispatch, process, runs, schema

EVENTS: tuple[type[Event], ...] = tuple(
    found
    for subject in (process, dispatch, capture, batch, runs, schema)
    for found in vars(subject).values()
    if isinstance(found, type) and issubclass(found, Event) and found is not Event
)
"""In the order in which docs/events.md lists them."""
