"""The schema that pipelines need, and what was done to it."""

from __future__ import annotations

from pgvector_sync.telemetry.event import Event, Level, Words, event


@event("applied")
class PipelineApplied(Event):
    """The database matches the file."""

    pipeline: str


@event("schema_problem", Level.WARNING)
class SchemaProblem(Event):
    """Source, target or triggers aren't as a pipeline needs them; its state says why."""

    pipeline: str
    reason: Words


@event("schema_repaired")
class SchemaProblemEnded(Event):
    """Source, target and triggers are as a pipeline needs them again."""

    pipeline: str


@event("schema_repaired")
class TriggersInstalled(Event):
    """Lost or outdated triggers of a source were installed again."""

    source: str


@event("schema_repaired")
class SequenceRepaired(Event):
    """A sequence would have given out ids that are taken; it was set to the next free one."""

    sequence: str
