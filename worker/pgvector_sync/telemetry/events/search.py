"""Events about searches: what is sampled of them, and how well they find."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("query_sampling_off", Level.WARNING)
class QuerySamplingOff(Event):
    """Vectors of queries can't be stored, so this process samples none any more; searches work as before."""

    reason: Words
    hint: Words
    sqlstate: str | None


@event("recall_measured")
class RecallMeasured(Event):
    """The recall of a pipeline's index was measured, here with the setting that `search` uses from now on."""

    pipeline: str
    recall: float
    low: float
    high: float
    queries: int


@event("recall_not_measured", Level.WARNING)
class RecallNotMeasured(Event):
    """The recall of a pipeline's index couldn't be measured; tried again after `index.measure_every`."""

    pipeline: str
    reason: Words


@event("query_samples_dropped", Level.DEBUG)
class QuerySamplesDropped(Event):
    """Sampled vectors of queries couldn't be stored this time, and were dropped."""

    queries: int
    sqlstate: str | None
