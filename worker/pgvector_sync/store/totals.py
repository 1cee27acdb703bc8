"""Counters of batches and provider calls since the pipeline exists.

They are written with a batch's own bookkeeping: rows by the transactions that change them, calls at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from psycopg import sql

from pgvector_sync.database import Connection
from pgvector_sync.database.statements import composed_once, part, statement
from pgvector_sync.model import Lane

WAIT_BOUNDS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
CALL_BOUNDS_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CLAIM_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The upper bounds of the buckets, as Prometheus has them: each counts what took at most so long."""

LANES = frozenset(Lane)
OUTCOMES = ("stored", "removed", "absent", "unchanged", "superseded", "parked", "released", "backed_off")
"""What a batch has done with a row."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations, as counts of those that are at most as long as each bound."""

    count: int
    seconds: float
    """Their sum."""
    bounds: Sequence[float]
    """In seconds."""
    buckets: Sequence[int]

    def __add__(self, other: Histogram) -> Histogram:
        """Both have the same bounds."""
        buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        return Histogram(self.count + other.count, self.seconds + other.seconds, self.bounds, buckets)


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """What the batches of a pipeline's lane have done."""

    pipeline: str
    lane: str
    """Or the kind of a run, of which only lost leases count."""
    batches: int
    leases_lost: int
    rows: dict[str, int]
    """By outcome."""
    waits: Histogram
    """From a change to its acknowledgement."""
    claims: Histogram
    """From the start of a claim until its rows were found."""


@dataclass(frozen=True, slots=True)
class CallTotals:
    """The calls of a pipeline's provider that had the same outcome."""

    pipeline: str
    outcome: str
    """`ok`, or the class of the failure."""
    calls: Histogram


def buckets_of(seconds: str, bounds: Sequence[float]) -> sql.Composed:
    """Returns the elements of an array: how many rows' `seconds`, an expression, are at most each bound."""
    each = sql.SQL("count(*) FILTER (WHERE {} <= {})")
    return sql.SQL(", ").join([each.format(sql.SQL(seconds), sql.Literal(bound)) for bound in bounds])


@composed_once
def adding_ended() -> sql.Composed:
    """Returns the end of a statement that has deleted leases as `ended`: adds their counts to the totals."""
    return part("totals.add").format(claim_buckets=buckets_of("e.claim_seconds", CLAIM_BOUNDS_SECONDS))


def add_apart(
    connection: Connection,
    lease: UUID,
    *,
    stored: int = 0,
    removed: int = 0,
    absent: int = 0,
    unchanged: int = 0,
    superseded: int = 0,
    wait_seconds: Decimal = Decimal(0),
    wait_buckets: Sequence[int] | None = None,
) -> None:
    """Counts rows of a batch whose lease is locked by another session. Waits for nothing."""
    params = {
        "lease": lease,
        "stored": stored,
        "removed": removed,
        "absent": absent,
        "unchanged": unchanged,
        "superseded": superseded,
        "wait_seconds": wait_seconds,
        "wait_buckets": None if wait_buckets is None else list(wait_buckets),
    }
    connection.execute(statement("totals.add_apart"), params)


def batches(connection: Connection) -> list[BatchTotals]:
    """Returns the totals of all pipelines by lane, including batches in flight."""
    return [
        BatchTotals(
            row["name"],
            row["lane"],
            row["batches"],
            row["leases_lost"],
            {outcome: row[outcome] for outcome in OUTCOMES},
            Histogram(
                sum(row[outcome] for outcome in ("stored", "removed", "absent", "unchanged")),
                row["wait_seconds"],
                WAIT_BOUNDS_SECONDS,
                row["wait_buckets"] or [0] * len(WAIT_BOUNDS_SECONDS),
            ),
            Histogram(
                row["batches"],
                row["claim_seconds"],
                CLAIM_BOUNDS_SECONDS,
                row["claim_buckets"] or [0] * len(CLAIM_BOUNDS_SECONDS),
            ),
        )
        for row in connection.execute(statement("totals.batches"))
    ]


def calls(connection: Connection) -> list[CallTotals]:
    """Returns the calls of all pipelines by outcome."""
    return [
        CallTotals(
            row["name"],
            row["outcome"],
            Histogram(row["calls"], row["seconds"], CALL_BOUNDS_SECONDS, row["buckets"]),
        )
        for row in connection.execute(statement("totals.calls"))
    ]
