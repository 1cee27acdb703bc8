"""The schema watch runs by itself and reports problems (G15). The problems are tested in tests/engine/watch."""

from __future__ import annotations

from pgvector_sync.engine.jobs.schema_watch import JOB
from pgvector_sync.telemetry.events.schema import SchemaProblem, SchemaProblemEnded
from support.jobs import ask, run_due
from support.synced import Synced


def test_a_problem_and_its_end_are_noticed_at_the_next_interval(docs: Synced) -> None:
    docs.run("ALTER TABLE docs RENAME TO renamed")
    [problem] = run_due(docs.runtime, JOB).of(SchemaProblem)
    assert (problem.pipeline, "public.docs" in problem.reason) == ("docs", True)
    docs.run("ALTER TABLE renamed RENAME TO docs")
    assert ask(docs.runtime, JOB).of(SchemaProblemEnded) == [], "within the interval it isn't looked at again"
    assert run_due(docs.runtime, JOB).of(SchemaProblemEnded) == [SchemaProblemEnded(pipeline="docs")]


def test_it_runs_often_enough_to_notice_within_a_minute() -> None:
    assert 3 * JOB.every.total_seconds() <= 60
