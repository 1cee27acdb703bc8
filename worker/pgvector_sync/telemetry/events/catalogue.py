"""All events in one place. A process imports only the files whose events it emits."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event
from pgvector_sync.telemetry.events import (
    batch,
    capture,
    dispatch,
    index,
    process,
    provider,
    runs,
    schema,
    search,
    web,
)

EVENTS: tuple[type[Event], ...] = tuple(
    cls
    for subject in (process, dispatch, capture, batch, provider, runs, schema, search, web, index)
    for cls in vars(subject).values()
    if isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
)
"""In the order in which docs/events.md lists them."""
