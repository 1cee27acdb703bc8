"""Runs and counts of drift are deleted once they are older than the settings keep them."""

from __future__ import annotations

from pgvector_sync.engine.jobs.forget_history import JOB
from support.jobs import run_due
from support.synced import Synced

RUNS = "SELECT count(*) FROM pgvector_sync.run"
FIGURES = "SELECT count(*) FROM pgvector_sync.drift"


def test_once_an_hour_old_runs_and_figures_are_forgotten(docs: Synced) -> None:
    docs.run(
        "UPDATE pgvector_sync.run SET finished_at = now() - interval '31 days'",
        "INSERT INTO pgvector_sync.drift SELECT 1, now() - interval '500 days', 1, false, 0,0,0,0,0,0,0,0,0",
    )
    assert docs.database.value(RUNS) == 1
    run_due(docs.runtime, JOB)
    assert docs.database.value(RUNS) == 0
    assert docs.database.value(FIGURES) == 0


def test_younger_runs_and_figures_stay(docs: Synced) -> None:
    docs.run(
        "UPDATE pgvector_sync.run SET finished_at = now() - interval '29 days'",
        "INSERT INTO pgvector_sync.drift SELECT 1, now() - interval '1 day', 1, false, 0,0,0,0,0,0,0,0,0",
    )
    run_due(docs.runtime, JOB)
    assert (docs.database.value(RUNS), docs.database.value(FIGURES)) == (1, 1)
