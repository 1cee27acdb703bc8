"""Old dead letters are discarded where the settings say so, and only there."""

from __future__ import annotations

from datetime import timedelta

from pgvector_sync.engine.jobs.discard_dead_letters import JOB
from pgvector_sync.telemetry.events.batch import DeadLettersDiscarded
from support.jobs import run_due
from support.synced import Synced


def test_old_dead_letters_are_discarded_if_that_is_wanted(docs: Synced) -> None:
    docs.endpoint.fail(status=400, marker="poison")
    docs.run("INSERT INTO docs VALUES (2, 'poison')")
    docs.settle()
    docs.run("UPDATE pgvector_sync.work SET parked_at = now() - interval '91 days'")
    run_due(docs.runtime, JOB)
    assert docs.dead() == [([2], "input_rejected")], "unless it is wanted, they stay"
    settings = docs.runtime.settings.model_copy(update={"discard_dead_letters_after": timedelta(days=90)})
    events = run_due(docs.runtime, JOB, settings=settings)
    assert events.of(DeadLettersDiscarded) == [DeadLettersDiscarded(rows=1)]
    assert docs.dead() == []
    docs.covered()
