"""What the status page shows besides `status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgvector_sync.database import Connection, one
from pgvector_sync.database.loaders import duration
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key, Pipeline
from pgvector_sync.store.drift import Figures
from pgvector_sync.store.workers import SILENCE

MAX_LETTERS = 10_000
"""The dead letters of a pipeline that are grouped by class. If there are more, the numbers are lower bounds."""
MAX_WORKERS = 1_000


@dataclass(frozen=True, slots=True)
class Today:
    """What a pipeline has spent since midnight UTC."""

    requests: int = 0
    tokens: int = 0
    inputs: int = 0
    usd: float = 0.0
    """US dollars, at the price of the time; 0 if it isn't known."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The worst lag within an interval of time."""

    at: datetime
    """Its beginning."""
    lag: timedelta | None
    """None if nothing waited."""


@dataclass(frozen=True, slots=True)
class DeadClass:
    """The dead letters of one class."""

    error_class: str
    """See docs/failures.md."""
    count: int
    message: str
    """What happened to the oldest."""
    oldest: timedelta | None
    """Its age; None if it isn't known."""
    keys: tuple[Key | str, ...]
    """The oldest keys, as `dead-letters list` has them."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker or `sync` process that was alive within the last hour."""

    name: str
    slots: int
    """The number of batches that it can process at once."""
    relay: bool
    """Whether it is the elected relay, which looks for work."""
    alive: bool
    seen: timedelta
    """The age of its last sign of life."""


def now(connection: Connection) -> datetime:
    """Returns the database's time."""
    at: datetime = one(connection, statement("overview.clock"), {})["at"]
    return at


def today(connection: Connection, pipeline: str | None = None) -> dict[str, Today]:
    """Returns what each pipeline has spent since midnight UTC, by name; without those that have spent nothing."""
    rows = connection.execute(statement("overview.today"), {"pipeline": pipeline})
    return {row.pop("pipeline"): Today(**row) for row in rows}


def lags(connection: Connection, names: Sequence[str], *, since: timedelta, points: int) -> dict[str, list[Lag]]:
    """Returns the worst lags of the last `since` in up to `points` intervals, by pipeline, oldest first."""
    params = {"names": list(names), "window": since, "every": max(since / points, timedelta(minutes=1))}
    found: dict[str, list[Lag]] = {}
    for row in connection.execute(statement("overview.lags"), params):
        found.setdefault(row["pipeline"], []).append(Lag(row["at"], duration(row["lag_seconds"])))
    return found


def last_drift(connection: Connection, pipeline: str | None = None) -> dict[str, Figures]:
    """Returns what the last reconciliation of each pipeline found, by name."""
    rows = connection.execute(statement("overview.last_drift"), {"pipeline": pipeline})
    return {row["pipeline"]: Figures(**row) for row in rows}


def dead_classes(connection: Connection, pipeline: Pipeline, *, keys: int) -> list[DeadClass]:
    """Returns the classes of a pipeline's dead letters, most frequent first, with up to so many keys each."""
    params = {"pipeline_id": pipeline.id, "source_id": pipeline.source.id, "limit": MAX_LETTERS, "examples": keys}
    return [
        DeadClass(
            row["error_class"],
            row["count"],
            row["message"],
            duration(row["oldest_seconds"]),
            tuple(key if isinstance(key, str) else tuple(key) for key in row["keys"]),
        )
        for row in connection.execute(statement("overview.dead_classes"), params)
    ]


def workers(connection: Connection) -> list[WorkerRow]:
    """Returns the workers that were alive within the last hour."""
    rows = connection.execute(statement("overview.workers"), {"silence": SILENCE, "limit": MAX_WORKERS})
    return [
        WorkerRow(
            row["name"], row["slots"], row["relay"], row["alive"], duration(row["seen_seconds"]) or timedelta(0)
        )
        for row in rows
    ]


def index_sizes(connection: Connection, oid: int) -> dict[str, int]:
    """Returns the bytes of each index of a target, by name. Raises LockNotAvailable while one is locked."""
    rows = connection.execute(statement("overview.index_sizes"), {"oid": oid})
    return {row["name"]: row["bytes"] for row in rows}
