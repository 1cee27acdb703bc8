"""A rate limit of the provider, or our own budget: which pipelines wait, and what it costs the rows."""

from __future__ import annotations

from collections.abc import Callable

from pgvector_sync.model import State
from support.steps import Steps
from support.synced import MODEL


def states(docs: Steps) -> dict[str, str]:
    return dict(docs.synced.database.execute("SELECT name, state FROM pgvector_sync.pipeline"))


def test_a_429_cools_down_all_pipelines_of_the_same_provider_and_model(docs: Steps) -> None:
    docs.synced.pipeline("notes", text=["note"], target="docs_notes")
    docs.synced.pipeline("large", text=["note"], target="docs_large", model="text-embedding-3-large")
    docs.synced.endpoint.fail(status=429, headers={"Retry-After": "77"})
    docs.insert(_1="one")
    docs.process()
    assert states(docs) == {"docs": "cooling_down", "notes": "cooling_down", "large": "active"}
    same = "SELECT count(DISTINCT (retry_at, reason)) FROM pgvector_sync.pipeline WHERE model = %s"
    assert docs.synced.database.value(same, MODEL) == 1
    docs.synced.endpoint.heal()
    docs.synced.run("UPDATE pgvector_sync.pipeline SET retry_at = now() WHERE retry_at IS NOT NULL")
    docs.synced.sync()


def test_a_provider_that_always_asks_for_no_pause_is_not_called_in_a_loop(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=429, headers={"Retry-After": "0"})
    docs.insert(_1="one")
    docs.process()
    pause = "SELECT retry_at - now() > interval '500 ms' FROM pgvector_sync.pipeline"
    assert docs.synced.database.value(pause)


def test_a_429_leaves_a_pause_alone(docs: Steps) -> None:
    docs.synced.pipeline("notes", text=["note"], target="docs_notes")
    docs.synced.run("UPDATE pgvector_sync.pipeline SET state = 'paused' WHERE name = 'notes'")
    docs.synced.endpoint.fail(status=429)
    docs.insert(_1="one")
    docs.process()
    assert states(docs) == {"docs": "cooling_down", "notes": "paused"}


def test_another_failure_is_the_pipelines_own(docs: Steps) -> None:
    docs.synced.pipeline("notes", text=["note"], target="docs_notes")
    docs.synced.endpoint.fail(status=503)
    docs.insert(_1="one")
    docs.process()
    assert states(docs) == {"docs": "cooling_down", "notes": "active"}


def test_a_batch_that_outlasts_the_budget_keeps_what_it_bought_and_goes_on(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    # two kilobytes are a thousand tokens by their bytes; six seconds are worth fewer than twelve of them
    docs.synced.run("UPDATE pgvector_sync.provider SET tokens_per_minute = 60000")
    docs.synced.run("INSERT INTO docs SELECT i, i || repeat(' word', 390) FROM generate_series(1, 60) AS i")
    outcome = worker(deadline=6).process()
    assert outcome is not None
    assert 0 < outcome.stored < 60
    assert outcome.stored + outcome.released == 60
    assert docs.state() == (State.ACTIVE, None)
    assert docs.synced.database.execute("SELECT DISTINCT attempts FROM pgvector_sync.work") == [(0,)]
    assert docs.synced.endpoint.calls.inputs >= outcome.stored
