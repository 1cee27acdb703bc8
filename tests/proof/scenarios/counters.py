"""Scenarios of the counters, which the end of a lease moves into the totals."""

from __future__ import annotations

from pgvector_sync.store import leases, totals
from proof.arena import REFUSED, Arena
from proof.scenario import scenario


def _counted(arena: Arena) -> dict[str, int]:
    """The counts of the live lane that aren't 0, of rows, batches and lost leases."""
    with arena.runtime.database.transaction(read_only=True) as connection:
        live = [each for each in totals.batches(connection) if each.lane == "live"]
    if not live:
        return {}
    every = live[0].rows | {
        "batches": live[0].batches,
        "lost": live[0].leases_lost,
        "waits": live[0].waits.buckets[-1],
    }
    return {name: count for name, count in every.items() if count}


def _end(arena: Arena, batch: object) -> None:
    arena.runtime.database.retry_on_lock_conflict(batch.holding.end)  # type: ignore[attr-defined]


@scenario
def a_batch_counts_its_rows_when_they_are_written_and_once(arena: Arena) -> None:
    arena.insert(_1="one", _2="two", _3="  ")
    batch = arena.claim()
    arena.write(batch, arena.embed(batch))
    rows = {"stored": 2, "absent": 1, "waits": 3}
    assert _counted(arena) == rows, "rows aren't counted before the batch ends"
    _end(arena, batch)
    assert _counted(arena) == rows | {"batches": 1}, "the end of a batch changes counts"
    _end(arena, batch)
    _expire(arena)
    assert _counted(arena) == rows | {"batches": 1}, "a batch that has ended is counted again"


@scenario
def a_batch_that_dies_after_its_write_keeps_its_counts(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    batch = arena.claim()
    arena.write(batch, arena.embed(batch))
    arena.expire_leases()
    rows = {"stored": 2, "waits": 2, "lost": 1}
    assert _counted(arena) == rows
    _expire(arena)
    assert _counted(arena) == rows | {"batches": 1}, "a lost batch loses its counts"


@scenario
def rows_that_are_refused_released_or_changed_are_counted(arena: Arena) -> None:
    arena.insert(_1=REFUSED)
    arena.process()
    assert _counted(arena) == {"parked": 1, "batches": 1}
    arena.insert(_2="two", _3="three")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.change(2, "changed")
    arena.write(batch, [row for row in prepared if row.key == (2,)])
    arena.runtime.database.retry_on_lock_conflict(lambda c: batch.holding.release(c, [(3,)]))
    _end(arena, batch)
    assert _counted(arena) == {"parked": 1, "superseded": 1, "released": 1, "batches": 2}
    arena.at_rest()


@scenario
def a_row_that_always_kills_its_worker_counts_as_parked(arena: Arena) -> None:
    arena.insert(_1="deadly")
    for _ in range(arena.runtime.settings.attempts):
        arena.claim()
        arena.expire_leases()
    assert arena.try_claim() is None
    assert _counted(arena).get("parked") == 1


@scenario
def a_batch_whose_lease_is_locked_counts_its_rows(arena: Arena) -> None:
    arena.insert(_1="one", _2="two")
    batch = arena.claim()
    prepared = arena.embed(batch)
    arena.change(2, "changed")
    with arena.synced.database.connect() as other, other.transaction():
        other.execute("SELECT FROM pgvector_sync.lease FOR UPDATE")
        arena.write(batch, prepared)
        assert _counted(arena) == {"stored": 1, "superseded": 1, "waits": 1}, "a locked lease is in the way"
    _end(arena, batch)
    assert _counted(arena) == {"stored": 1, "superseded": 1, "waits": 1, "batches": 1}
    arena.at_rest()


def _expire(arena: Arena) -> None:
    grace = arena.runtime.settings.grace
    arena.runtime.database.retry_on_lock_conflict(lambda connection: leases.expire(connection, grace=grace))
