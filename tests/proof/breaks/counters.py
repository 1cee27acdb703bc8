"""Breaks of the counters that batches keep in their leases."""

from __future__ import annotations

from proof.edits import Edit
from proof.mutant import Mutant

ONCE = "a batch counts its rows when they are written and once"
DIES = "a batch that dies after its write keeps its counts"
FAILS = "rows that are refused released or changed are counted"
LOCKED = "a batch whose lease is locked counts its rows"
NOT_FROM_LOST = "WHERE e.claim_seconds IS NOT NULL OR e.lost_at IS NOT NULL"


def _counts_nothing(statement: str, column: str) -> tuple[Edit, ...]:
    return (Edit(f"work.{statement}", f"SET {column} = {column} + ", f"SET {column} = {column} + 0 * "),)


MUTANTS = (
    Mutant(
        "an ack isn't counted",
        (Edit("work.ack", "stored = l.stored + %(stored)s", "stored = l.stored"),),
        ONCE,
        "scenario",
    ),
    Mutant(
        "an ack doesn't count how long rows have waited",
        (Edit("work.ack", "pgvector_sync.add_each(l.wait_buckets, waited.buckets)", "l.wait_buckets"),),
        ONCE,
        "scenario",
    ),
    Mutant(
        "the end of a batch loses its counts",
        (Edit("totals.add", NOT_FROM_LOST, "WHERE false"),),
        ONCE,
        "scenario",
    ),
    Mutant(
        "a batch is counted and its lease stays",
        (
            Edit(
                "leases.end",
                "DELETE FROM pgvector_sync.lease",
                "UPDATE pgvector_sync.lease SET expires_at = expires_at",
            ),
        ),
        ONCE,
        "scenario",
    ),
    Mutant(
        "a lost lease loses its counts",
        (Edit("totals.add", NOT_FROM_LOST, "WHERE e.lost_at IS NULL"),),
        DIES,
        "scenario",
    ),
    Mutant(
        "a scrape ignores batches in flight",
        (Edit("totals.batches", "l.lost_at IS NOT NULL) AS t", "l.lost_at IS NOT NULL LIMIT 0) AS t"),),
        ONCE,
        "scenario",
    ),
    Mutant("dead letters aren't counted", _counts_nothing("park", "parked"), FAILS, "scenario"),
    Mutant("released rows aren't counted", _counts_nothing("release", "released"), FAILS, "scenario"),
    Mutant(
        "superseded rows aren't counted", _counts_nothing("release_superseded", "superseded"), FAILS, "scenario"
    ),
    Mutant(
        "rows that crash workers aren't counted",
        (Edit("work.park_crashed", "HAVING count(*) > 0", "HAVING false"),),
        "a row that always kills its worker counts as parked",
        "scenario",
    ),
    Mutant(
        "rows are lost to the counters if the lease is locked",
        (Edit("store.work:Holding.ack", 'if not acknowledged["counted"]:', "if False:"),),
        LOCKED,
        "scenario",
    ),
    Mutant(
        "an ack waits for its counter",
        (Edit("work.ack", " FOR UPDATE SKIP LOCKED", ""),),
        LOCKED,
        "scenario",
    ),
)
