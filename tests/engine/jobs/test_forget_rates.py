"""Rows per minute are kept for an hour."""

from __future__ import annotations

from pgvector_sync.engine.jobs.forget_rates import JOB
from support.jobs import run_due
from support.synced import Synced


def test_rates_of_more_than_an_hour_ago_are_forgotten(docs: Synced) -> None:
    rates = "SELECT rows FROM pgvector_sync.throughput ORDER BY rows"
    docs.run(
        "DELETE FROM pgvector_sync.throughput",
        "INSERT INTO pgvector_sync.throughput SELECT 1, now() - age.age, age.rows "
        "FROM (VALUES (interval '61 minutes', 7), (interval '59 minutes', 8)) AS age (age, rows)",
    )
    run_due(docs.runtime, JOB)
    assert docs.database.execute(rates) == [(8,)]
