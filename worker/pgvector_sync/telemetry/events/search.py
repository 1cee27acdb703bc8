"""Events of processes that search."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("query_sampling_off", Level.WARNING)
class QuerySamplingOff(Event):
    """Vectors of queries can't be stored, so this process samples none any more; searches work as before."""

    reason: Words
    hint: Words
    sqlstate: str | None


@event("query_samples_dropped", Level.DEBUG)
class QuerySamplesDropped(Event):
    """Sampled vectors of queries couldn't be stored this time, and were dropped."""

    queries: int
    sqlstate: str | None
