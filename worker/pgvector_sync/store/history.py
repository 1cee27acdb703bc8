"""The state of each pipeline minute by minute, for charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection
from pgvector_sync.database.loaders import duration
from pgvector_sync.database.statements import statement
from pgvector_sync.store.status import Counts


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of a pipeline within an interval of time."""

    at: datetime
    """Its beginning."""
    lag: timedelta | None
    """The worst; None if nothing waited."""
    waiting: int
    """The most."""
    in_flight: int
    dead: int
    source_rows: int
    fresh_rows: int
    """These four as of the end."""
    rows_per_second: float
    """The mean."""


def record(connection: Connection, pipelines: Sequence[Counts]) -> None:
    """Stores the state of this minute, unless another process has."""
    params = {
        "names": [each.name for each in pipelines],
        "lags": [each.lag_seconds for each in pipelines],
        "waiting": [each.waiting for each in pipelines],
        "in_flight": [each.in_flight for each in pipelines],
        "dead": [each.dead for each in pipelines],
        "source_rows": [each.rows for each in pipelines],
        "fresh_rows": [each.fresh for each in pipelines],
        "rates": [each.rows_per_second for each in pipelines],
    }
    connection.execute(statement("history.record"), params)


def lately(connection: Connection, pipeline: str, *, since: timedelta, points: int) -> list[Sample]:
    """Returns the last `since` in up to `points` intervals of equal length, oldest first, without empty ones."""
    params = {"name": pipeline, "window": since, "every": max(since / points, timedelta(minutes=1))}
    return [
        Sample(
            row["at"],
            duration(row["lag_seconds"]),
            row["waiting"],
            row["in_flight"],
            row["dead"],
            row["source_rows"],
            row["fresh_rows"],
            row["rows_per_second"],
        )
        for row in connection.execute(statement("history.lately"), params)
    ]


def forget(connection: Connection, *, older_than: timedelta) -> None:
    """Deletes what is older."""
    connection.execute(statement("history.forget"), {"older_than": older_than})
