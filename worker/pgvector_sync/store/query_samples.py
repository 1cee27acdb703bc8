"""A sample of the vectors of real queries, with which recall is measured."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import timedelta

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Pipeline
from pgvector_sync.model.search import QueryVector

KEPT = 2_000
"""The number of vectors per pipeline that `forget` leaves."""


def keep(connection: Connection, queries: Sequence[QueryVector]) -> None:
    """Stores vectors, except those of pipelines that no longer exist."""
    params = {
        "names": [query.pipeline for query in queries],
        "spec_versions": [query.spec_version for query in queries],
        "models": [query.model for query in queries],
        # rounded here: Postgres refuses a number that a real can't represent
        "arrays": [f"{{{','.join(map(repr, array('f', query.vector)))}}}" for query in queries],
    }
    connection.execute(statement("query_samples.keep"), params)


def recent(connection: Connection, pipeline: Pipeline, *, limit: int) -> list[list[float]]:
    """Returns the newest vectors of the pipeline's current model, newest first."""
    params = {"pipeline_id": pipeline.id, "limit": limit}
    return [list(row["vector"]) for row in connection.execute(statement("query_samples.recent"), params)]


def forget(connection: Connection, *, older_than: timedelta, kept: int = KEPT) -> None:
    """Deletes what is older, exceeds the number kept per pipeline, or can't be compared any more."""
    connection.execute(statement("query_samples.forget"), {"older_than": older_than, "kept": kept})
