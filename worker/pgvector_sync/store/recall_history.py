"""Measurements of recall over time: which are due, what they have found, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Method, Pipeline

LEAST_ROWS = 1_000
"""A smaller target isn't measured: comparing all of its vectors is as fast as an index."""
LOST_AFTER = timedelta(hours=1)
"""How long after the start of an attempt its process is presumed dead."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A measurement that this process has claimed."""

    pipeline: str
    lease: UUID


@dataclass(frozen=True, slots=True)
class Measured:
    """What searches with one setting have found."""

    value: int
    queries: int
    recall: float
    low: float
    high: float
    p5: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement to store."""

    index_name: str
    method: Method
    setting: str
    k: int
    source: str
    target: float
    rows: int
    settings: Sequence[Measured]
    default: int
    """The value that `search` uses at least, one of those that were measured."""
    used: int
    """The one that it uses from now on."""
    enough: int | None
    """The smallest value that has reached the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallState:
    """The last measurement of a pipeline's recall, compared with the first one since its index was built."""

    at: datetime
    index_name: str
    setting: str
    """`hnsw.ef_search` or `ivfflat.probes`."""
    value: int
    """The default: the smallest one that `search` uses."""
    k: int
    queries: int
    source: str
    """`rows`, or `logged` for a sample of real queries."""
    recall: float
    """With the default."""
    low: float
    """The bounds of an interval of 95 %."""
    high: float
    p5: float
    target: float
    rows: int
    used_value: int
    """The value that `search` uses since the measurement."""
    used_recall: float
    """With that value."""
    built_at: datetime
    """The first measurement since the index was built."""
    built_recall: float
    churn: float
    """Vectors that were written between the two measurements, per row."""
    current: bool
    """Whether the index is still the one that was measured."""


def claim(connection: Connection, pipelines: Sequence[Pipeline]) -> Attempt | None:
    """Claims one pipeline whose recall is due. Returns None if there is none, or another process was faster."""
    wanted = [each for each in pipelines if each.options.index.measure_every is not None]
    lease = uuid4()
    query = statement("recall_history.claim").format(
        filenodes=part("recall_history.filenodes"), is_due=part("recall_history.is_due")
    )
    params = {
        "ids": [each.id for each in wanted],
        "intervals": [each.options.index.measure_every for each in wanted],
        "least_rows": LEAST_ROWS,
        "lost_after": LOST_AFTER,
        "lease": lease,
    }
    row = connection.execute(query, params).fetchone()
    return None if row is None else Attempt(row["name"], lease)


def note(connection: Connection, attempt: Attempt, measurement: Measurement) -> bool:
    """Stores a measurement. Returns False if another process has taken over, or the index was built meanwhile."""
    settings, hnsw = measurement.settings, measurement.method is Method.HNSW
    params = {
        "lease": attempt.lease,
        "name": attempt.pipeline,
        "index_name": measurement.index_name,
        "setting_name": measurement.setting,
        "ef_search": measurement.enough if hnsw else None,
        "probes": None if hnsw else measurement.enough,
        "default_value": measurement.default,
        "used_value": measurement.used,
        "k": measurement.k,
        "query_source": measurement.source,
        "recall_target": measurement.target,
        "measured_rows": measurement.rows,
        "setting_values": [each.value for each in settings],
        "queries": [each.queries for each in settings],
        "recalls": [each.recall for each in settings],
        "lows": [each.low for each in settings],
        "highs": [each.high for each in settings],
        "worst_recalls": [each.p5 for each in settings],
    }
    return connection.execute(statement("recall_history.note"), params).rowcount == len(settings)


def failed(connection: Connection, attempt: Attempt, reason: str) -> None:
    """Ends an attempt that couldn't measure."""
    connection.execute(statement("recall_history.failed"), {"lease": attempt.lease, "reason": reason})


def state(connection: Connection, pipeline: Pipeline) -> tuple[RecallState | None, str | None]:
    """Returns the last measurement, if there is one, and why the last attempt has failed, if it has."""
    row = one(connection, statement("recall_history.state"), {"pipeline_id": pipeline.id})
    reason = row["reason"]
    if row["at"] is None:
        return None, reason
    return RecallState(**{name: row[name] for name in RecallState.__slots__}), reason


def scans(connection: Connection, pipeline: Pipeline, *, since: datetime | None) -> dict[str, int]:
    """Returns how often measurements have scanned each index since it was built, and since then (None: ever)."""
    params = {"pipeline_id": pipeline.id, "counted_since": since}
    rows = connection.execute(statement("recall_history.scans"), params)
    return {row["index_name"]: int(row["scans"]) for row in rows}


def forget(connection: Connection, *, older_than: timedelta) -> None:
    """Deletes what is older, except the first and the last measurement of each build of an index."""
    connection.execute(statement("recall_history.forget"), {"older_than": older_than})
