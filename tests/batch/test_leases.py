"""Leases: renewed while a batch lives, suspected before they are lost, and never alive again after that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgvector_sync import database
from pgvector_sync.batch import process
from pgvector_sync.batch.claim import claim
from pgvector_sync.model import Lane
from pgvector_sync.runtime import keeper
from pgvector_sync.runtime.keeper import Keeper, expire_leases, lose_leases_of_process
from pgvector_sync.store import leases
from pgvector_sync.telemetry.events.batch import LeasesNotRenewed
from support.events import collected
from support.steps import Steps
from support.waiting import eventually

SHORT = {"lease": 0.6, "deadline": 20.0}
"""Seconds: renewed every 0.12 s, suspected after 0.4 s, lost 0.2 s later."""


def states(docs: Steps) -> list[tuple[Any, ...]]:
    """(suspected, lost) of each lease."""
    query = "SELECT suspected_at IS NOT NULL, lost_at IS NOT NULL FROM pgvector_sync.lease ORDER BY taken_at"
    return docs.synced.database.execute(query)


def watch(docs: Steps) -> None:
    """Look once for leases that are no longer renewed."""
    expire_leases(docs.runtime.database, docs.runtime.settings)


def run_out(docs: Steps, *, suspected: bool = False) -> None:
    """Make the lease look as if it had not been renewed for a while, noticed already or not."""
    docs.synced.run(
        "UPDATE pgvector_sync.lease SET expires_at = statement_timestamp() - interval '1 s'"
        + (", suspected_at = statement_timestamp() - interval '1 min'" if suspected else "")
    )


@contextmanager
def held_in_call(docs: Steps) -> Iterator[threading.Event]:
    """A worker whose provider call lasts until the event is set."""
    answer, called = threading.Event(), threading.Event()

    def during() -> None:
        called.set()
        answer.wait(20)

    runtime = docs._interrupted(during)

    def carry() -> None:
        with suppress(psycopg.OperationalError):
            process(runtime, "docs", Lane.LIVE)

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        assert called.wait(10)
        yield answer
    finally:
        answer.set()
        thread.join()


def test_a_batch_has_one_lease_which_goes_with_it(docs: Steps) -> None:
    seen: list[Any] = []
    docs.insert(_1="one", _2="two")
    docs.process(during=lambda: seen.extend(states(docs)))
    assert seen == [(False, False)]
    assert states(docs) == []


def test_a_lease_says_which_process_holds_it(docs: Steps) -> None:
    docs.insert(_1="one")
    docs.claim()
    assert docs.synced.database.value("SELECT holder FROM pgvector_sync.lease") == keeper.holder()


def test_a_batch_that_takes_longer_than_its_lease_keeps_its_rows(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    docs.insert(_1="one")
    docs.drain()
    slow, other = worker(**SHORT), worker(**SHORT)
    with held_in_call(slow) as answer:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:  # two and a half leases
            watch(other)
            assert other.try_claim() is None
        answer.set()
        eventually(lambda: docs.has_vector_of(1, "one"))
    docs.synced.sync()
    assert docs.synced.endpoint.calls.requests == 1


def test_all_leases_of_a_process_are_renewed_by_one_statement(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.synced.declare(batch_size=1)
    docs.synced.apply()
    docs.insert(_1="one", _2="two", _3="three")
    quick = worker(**SHORT)
    quick.drain()
    held = [quick.try_claim() for _ in range(3)]
    kept = Keeper(quick.runtime.database, quick.runtime.settings)
    before = "SELECT count(DISTINCT xmin::text), min(expires_at) FROM pgvector_sync.lease"
    transactions, first = docs.synced.database.execute(before)[0]
    assert transactions == 3
    with (
        kept.keeping(held[0].holding.lease),
        kept.keeping(held[1].holding.lease),
        kept.keeping(held[2].holding.lease),
    ):
        eventually(lambda: docs.synced.database.execute(before)[0][0] == 1, what="one transaction renews all")
        assert docs.synced.database.execute(before)[0][1] > first
    eventually(lambda: kept._thread is None, what="the thread ends with the last lease")


def test_a_lease_that_ran_out_is_suspected_first_and_lost_if_it_still_isnt_renewed(docs: Steps) -> None:
    docs.insert(_1="one")
    docs.claim()
    run_out(docs)
    watch(docs)
    assert states(docs) == [(True, False)]
    watch(docs)
    assert states(docs) == [(True, False)], "a lease was lost before its worker could renew it"
    run_out(docs, suspected=True)
    watch(docs)
    assert states(docs) == [(True, True)]
    again = docs.try_claim()
    assert again is not None
    assert again.rows[(1,)].attempts == 2


def test_a_living_worker_gets_a_suspected_lease_back_and_never_a_lost_one(docs: Steps) -> None:
    docs.insert(_1="one")
    lease = docs.claim().holding.lease
    run_out(docs)
    watch(docs)
    after = timedelta(seconds=10)
    with docs.runtime.database.transaction() as connection:
        assert leases.renew(connection, [lease], expires_after=after) == {lease}
    assert states(docs) == [(False, False)]
    docs.expire_leases()
    with docs.runtime.database.transaction() as connection:
        assert leases.renew(connection, [lease], expires_after=after) == set()


def test_nothing_renews_a_lease_beyond_its_end(docs: Steps) -> None:
    docs.insert(_1="one")
    lease = docs.claim().holding.lease
    with docs.runtime.database.transaction() as connection:
        assert leases.renew(connection, [lease], expires_after=timedelta(days=1)) == {lease}
    assert docs.synced.database.value("SELECT expires_at = ends_at FROM pgvector_sync.lease")
    assert docs.synced.database.value("SELECT ends_at - taken_at FROM pgvector_sync.lease") == timedelta(
        seconds=120
    )
    docs.synced.run("UPDATE pgvector_sync.lease SET ends_at = now(), expires_at = now()")
    with docs.runtime.database.transaction() as connection:
        assert leases.renew(connection, [lease], expires_after=timedelta(days=1)) == set()


def test_a_batch_that_hangs_for_ever_loses_its_rows_when_its_lease_ends(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    docs.insert(_1="one")
    docs.drain()
    with held_in_call(worker(lease=0.3, deadline=0.6)):
        other = worker(lease=0.3)

        def taken() -> bool:
            watch(other)
            return docs.synced.database.value("SELECT lost_at IS NOT NULL FROM pgvector_sync.lease")

        eventually(taken, what="renewed no longer than to its end")
        assert docs.synced.database.value("SELECT lost_at - taken_at FROM pgvector_sync.lease") > timedelta(
            seconds=0.8
        )
        other.process()
    assert docs.has_vector_of(1, "one")
    docs.synced.sync()


def test_a_worker_whose_lease_is_lost_writes_nothing_though_its_rows_are_not_taken_yet(docs: Steps) -> None:
    docs.insert(_1="text")
    late = docs.claim()
    prepared = docs.embed(late)
    docs.expire_leases()
    docs.write(late, prepared)
    assert docs.synced.vectors() == {}
    assert docs.work(1, "lease", "attempts") == (late.holding.lease, 1), (
        "what was paid for has used up its attempt"
    )
    assert docs.claim().rows[(1,)].attempts == 2


def test_leases_of_a_dead_child_are_lost_at_once_and_no_others(docs: Steps) -> None:
    docs.synced.declare(batch_size=1)
    docs.synced.apply()
    docs.insert(_1="one", _2="two")
    docs.claim()
    docs.synced.run(f"UPDATE pgvector_sync.lease SET holder = '{keeper.holder(4711)}'")
    docs.try_claim()
    lose_leases_of_process(docs.runtime.database, 4711)
    query = "SELECT holder, lost_at IS NOT NULL FROM pgvector_sync.lease ORDER BY taken_at"
    assert docs.synced.database.execute(query) == [(keeper.holder(4711), True), (keeper.holder(), False)]


def test_lost_leases_without_rows_are_forgotten(docs: Steps) -> None:
    docs.insert(_1="one")
    docs.claim()
    run_out(docs, suspected=True)
    watch(docs)
    docs.process()
    assert states(docs) == [(True, True)]
    docs.insert(_2="two")
    docs.claim()
    run_out(docs)
    watch(docs)
    assert states(docs) == [(True, False)]


@pytest.mark.slow
def test_an_outage_longer_than_the_lease_takes_nothing_from_a_living_worker(
    docs: Steps, worker: Callable[..., Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs.insert(_1="one")
    docs.drain()
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", timedelta(seconds=0.5))
    slow, other = worker(lease=6.0), worker(lease=6.0)
    with held_in_call(slow) as answer:
        run_out(docs)  # as if it had been longer than a lease
        with collected() as events, away(docs):
            events.wait_for(LeasesNotRenewed)
        watch(other)
        assert states(docs) == [(True, False)]
        eventually(lambda: states(docs) == [(False, False)], what="renewed, now that it can be")
        assert other.try_claim() is None, "rows were taken from a living worker"
        answer.set()
        eventually(lambda: docs.has_vector_of(1, "one"))
    docs.synced.sync()
    assert docs.synced.endpoint.calls.requests == 1


def test_a_batch_that_ended_while_the_database_was_away_gives_its_rows_back_afterwards(
    docs: Steps, worker: Callable[..., Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    docs.insert(_1="one")
    docs.drain()
    docs.synced.endpoint.fail(status=503)
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", timedelta(seconds=0.5))
    brief = worker(lease=3.0, deadline=0.6)
    with held_in_call(brief) as answer, away(docs):
        answer.set()
        eventually(lambda: brief.runtime.keeper._postponed, what="it could not say that it has ended")
    docs.synced.endpoint.heal()
    eventually(lambda: docs.work(1, "lease", "attempts") == (None, 0), what="given back, its attempt with it")
    assert states(docs) == []
    docs.end_backoffs()
    docs.synced.sync()


@contextmanager
def away(docs: Steps) -> Iterator[None]:
    """Within this block no process gets or keeps a connection to the database."""
    name = docs.synced.database.name
    with docs.synced.database.server.connect() as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_claim_whose_rows_have_all_moved_meanwhile_leaves_no_lease(docs: Steps) -> None:
    """It would be taken for that of a dead worker."""
    docs.insert(_1="one")
    docs.drain()
    stop = threading.Event()

    def change() -> None:
        with docs.synced.database.connect() as connection:
            while not stop.is_set():
                connection.execute("UPDATE pgvector_sync.work SET generation = generation + 1 WHERE lease IS NULL")

    writers = [threading.Thread(target=change) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(60):
            batch = claim(docs.runtime, "docs", Lane.LIVE)
            if batch is not None:
                with docs.runtime.database.transaction() as connection:
                    batch.holding.release(connection, list(batch.rows))
                    batch.holding.end(connection)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.lease") == 0
