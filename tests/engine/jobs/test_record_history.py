"""The state of each pipeline is stored once per minute, and forgotten after a week."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.engine.jobs import forget_history
from pgvector_sync.engine.jobs.record_history import JOB
from pgvector_sync.store import history
from support.jobs import run_due
from support.synced import Synced

DAY = timedelta(days=1)


def lately(docs: Synced, *, points: int = 24 * 60) -> list[history.Sample]:
    with docs.runtime.database.transaction() as connection:
        return history.lately(connection, "docs", since=DAY, points=points)


def test_the_state_of_a_minute_is_stored_once(docs: Synced) -> None:
    docs.run("DELETE FROM pgvector_sync.history", "INSERT INTO docs VALUES (2, 'two')")
    run_due(docs.runtime, JOB)
    docs.run("INSERT INTO docs VALUES (3, 'three')")
    run_due(docs.runtime, JOB)
    found = lately(docs)
    assert len(found) in (1, 2), "two if a minute has ended in between"
    assert found[0].waiting >= 1
    assert found[0].lag is not None
    assert found[0].dead == 0


def test_an_interval_shows_its_worst_lag_and_its_last_counts(docs: Synced) -> None:
    docs.run(
        "DELETE FROM pgvector_sync.history",
        "INSERT INTO pgvector_sync.history SELECT 1, date_trunc('hour', now()) - make_interval(hours => 3, mins => n), "
        "CASE n WHEN 2 THEN 90 END, n, 0, n, 100, 100 - n, 1 FROM generate_series(1, 3) AS n",
    )
    (sample,) = lately(docs, points=24)
    assert sample.lag == timedelta(seconds=90)
    assert (sample.waiting, sample.dead, sample.fresh_rows) == (3, 1, 99)
    assert len(lately(docs)) == 3


def test_old_history_is_forgotten(docs: Synced) -> None:
    docs.run(
        "DELETE FROM pgvector_sync.history",
        "INSERT INTO pgvector_sync.history SELECT 1, now() - age.age, NULL, 0, 0, 0, 0, 0, 0 "
        "FROM (VALUES (interval '8 days'), (interval '6 days')) AS age (age)",
    )
    run_due(docs.runtime, forget_history.JOB)
    assert docs.database.value("SELECT count(*) FROM pgvector_sync.history") == 1
