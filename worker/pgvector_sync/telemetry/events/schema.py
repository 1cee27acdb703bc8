"""Events about the schema that pipelines need, and changes to it."""

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
    """Source, target and triggers are again as a pipeline needs them."""

    pipeline: str


@event("schema_repaired")
class TriggersInstalled(Event):
    """Lost or outdated triggers of a source were installed again."""

    source: str


@event("schema_repaired")
class SequenceRepaired(Event):
    """A sequence would have returned ids that exist already; it was set to the next free one."""

    sequence: str
