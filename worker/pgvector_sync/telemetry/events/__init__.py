"""All events, one file per subject.

Dashboards and alerts depend on an event's name and on the names of its fields: add to them, never rename one.
Several events share a name if the same thing is detected in different ways. docs/events.md lists them all.
"""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.events import batch, capture, dispatch, process, runs, schema

EVENTS: tuple[type[Event], ...] = tuple(
    cls
    for subject in (process, dispatch, capture, batch, runs, schema)
    for cls in vars(subject).values()
    if isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
)
"""In the order in which docs/events.md lists them."""
