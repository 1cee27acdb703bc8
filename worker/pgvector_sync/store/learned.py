"""What was learned about the requests to a provider's model. `pipelines` reads it together with the pipeline."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline
from pgvector_sync.model.learned import NOTHING_LEARNED, Learned

_VALUES = tuple(field.name for field in fields(Learned) if field.compare)


def read(row: dict[str, Any] | None, *, due: bool = False) -> Learned:
    """Converts a row of the table, as JSON; None if there is none."""
    if row is None:
        return NOTHING_LEARNED
    return Learned(**{name: row[name] for name in _VALUES}, version=row["version"], due=due)


def note(connection: Connection, pipeline: Pipeline, learned: Learned) -> bool:
    """Stores what a batch of this pipeline has learned. Returns False if another batch has done so before."""
    params = {
        "provider": pipeline.provider.name,
        "model": pipeline.spec.model,
        "version": pipeline.learned.version,
        "wait": learned.wait,
        **{name: getattr(learned, name) for name in _VALUES},
    }
    return connection.execute(statement("learned.note"), params).rowcount == 1


def forget(connection: Connection, provider: str) -> None:
    """Forgets what was learned about a provider, which has changed."""
    connection.execute(statement("learned.forget"), {"provider": provider})
