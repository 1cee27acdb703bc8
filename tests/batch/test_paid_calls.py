"""Nothing is bought in a loop (G14): what fails after an answer uses up an attempt, whatever it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pgvector_sync import failpoint
from pgvector_sync.batch import write as write_module
from pgvector_sync.engine.loop import Loop
from pgvector_sync.failpoint import Failpoint, InjectedError
from pgvector_sync.model import Lane
from pgvector_sync.model.request import Reembed
from pgvector_sync.runs.requests import request_reembed
from pgvector_sync.store import rows
from pgvector_sync.store.rows import Look
from support.steps import Steps
from support.synced import session

ATTEMPTS = 2
TURNS = 6
"""More than any row has attempts, so that a loop would show."""
AFTER_THE_ANSWER = [
    Failpoint.EMBED_ANSWERED,
    Failpoint.WRITE_HELD,
    Failpoint.WRITE_LOCKED,
    Failpoint.WRITE_LOOKED,
    Failpoint.WRITE_WRITTEN,
    Failpoint.WRITE_ACKED,
    Failpoint.WRITE_COMMITTED,
]
OF_CELERY = {Failpoint.RELAY_DRAINED, Failpoint.TICK_TAKEN, Failpoint.TASK_STARTED, Failpoint.TASK_ANSWERED}
"""Reached by tasks only; nothing is bought before them."""


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Failpoint], None]]:
    """Make a point raise an unexpected exception until the test ends or disarms all points."""
    folder = tmp_path / "failpoints"
    folder.mkdir()
    monkeypatch.setattr(failpoint, "_FOLDER", str(folder))
    yield lambda point: folder.joinpath(point).write_text("raise")
    for file in folder.iterdir():
        file.unlink()


@pytest.fixture
def impatient(docs: Steps, worker: Callable[..., Steps]) -> Steps:
    docs.checks = False
    return worker(attempts=ATTEMPTS, backoff_first=0.01, backoff_longest=0.02)


def paid_for(docs: Steps, text: str) -> int:
    return docs.synced.endpoint.calls.bought.count(hashlib.sha256(text.encode()).hexdigest())


def most_paid(docs: Steps) -> int:
    """How often the content that was sent most was sent. The harmless text of probes isn't counted."""
    counts = Counter(docs.synced.endpoint.calls.bought)
    counts.pop(hashlib.sha256(b"pgvector-sync asks whether this model answers.").hexdigest(), None)
    return max(counts.values(), default=0)


def turns(docs: Steps, count: int = TURNS) -> None:
    """Take enough turns of the engine to expose endless buying, skipping backoffs and cool-downs."""
    for _ in range(count):
        docs.end_backoffs()
        docs.expire_leases()
        try:
            Loop(docs.runtime).turn()
        except InjectedError:
            continue


def ends_well(docs: Steps) -> None:
    """Every row is fresh or a dead letter; requeued, all are embedded."""
    docs.end_backoffs()
    docs.expire_leases()
    docs.synced.settle(runtime=docs.runtime)
    docs.synced.run(
        "UPDATE pgvector_sync.work SET parked_at = NULL, verdict = NULL, attempts = 0, failed_fingerprint = NULL"
    )
    docs.synced.sync()
    assert docs.state() == ("active", None)


@pytest.mark.parametrize("point", AFTER_THE_ANSWER)
@pytest.mark.quick_variants(2)
def test_an_unknown_exception_after_the_answer_uses_up_an_attempt_and_is_bought_only_as_often(
    impatient: Steps, armed: Callable[[Failpoint], None], tmp_path: Path, point: Failpoint
) -> None:
    impatient.insert(_1="one", _2="two")
    impatient.drain()
    armed(point)
    if point is Failpoint.EMBED_ANSWERED:
        with pytest.raises(InjectedError):
            impatient.process()
        assert impatient.state() == ("cooling_down", "a worker failed (InjectedError): see its log")
    else:  # a failed slice costs the pipeline nothing
        impatient.process()
        assert impatient.state() == ("active", None)
    left = impatient.synced.database.execute("SELECT lease, attempts FROM pgvector_sync.work")
    if point is Failpoint.WRITE_COMMITTED:
        assert left == [], "the slice was stored before the point"
    else:
        assert left == [(None, 1), (None, 1)], "backed off, with the attempt used up"
    turns(impatient)
    assert 1 <= most_paid(impatient) <= ATTEMPTS
    (tmp_path / "failpoints" / point).unlink()
    ends_well(impatient)


def test_the_vectors_of_a_slice_that_fails_once_are_kept_and_written(
    impatient: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient.insert(_1="one", _2="two")
    impatient.drain()
    write, failures = rows.write, [RuntimeError("a time limit, say")]

    def fails_once(*arguments: object) -> None:
        if failures:
            raise failures.pop()
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "write", fails_once)
    outcome = impatient.process()
    assert outcome is not None
    assert outcome.stored == 2
    assert most_paid(impatient) == 1


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in Failpoint if point not in OF_CELERY])
def test_no_content_is_bought_more_often_than_it_has_attempts_wherever_it_fails(
    impatient: Steps, armed: Callable[[Failpoint], None], tmp_path: Path, point: Failpoint
) -> None:
    impatient.insert(_1="one", _2="two", _3="refused")
    impatient.synced.endpoint.fail(status=400, marker="refused")
    armed(point)
    turns(impatient)
    assert most_paid(impatient) <= ATTEMPTS
    (tmp_path / "failpoints" / point).unlink(missing_ok=True)
    impatient.synced.endpoint.heal()
    ends_well(impatient)


def test_an_expression_that_gives_another_text_at_every_look_is_parked_after_its_attempts(
    impatient: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a function of the user's that is declared immutable and isn't
    look = rows.look

    def unsteady(*arguments: object, **more: object) -> dict[object, Look]:
        return {
            key: Look(hashlib.sha256(seen.fingerprint or b"").digest(), seen.stored_fingerprint)
            for key, seen in look(*arguments, **more).items()  # type: ignore[arg-type]
        }

    monkeypatch.setattr(rows, "look", unsteady)
    impatient.insert(_1="one")
    turns(impatient)
    assert paid_for(impatient, "one") <= ATTEMPTS
    assert impatient.synced.dead() == [([1], "unsteady")]
    monkeypatch.undo()


def test_a_row_that_is_changed_during_every_call_is_never_parked(impatient: Steps) -> None:
    impatient.insert(_1="text 0")
    for turn in range(1, TURNS):
        impatient.end_backoffs()
        impatient.process(during=lambda turn=turn: impatient.change(1, f"text {turn}"))
    assert impatient.synced.dead() == []
    assert most_paid(impatient) == 1
    ends_well(impatient)


def test_a_row_that_the_application_keeps_locked_is_bought_once(
    impatient: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_module, "RETRY_LOCKED_FOR", timedelta(milliseconds=100))
    impatient.insert(_1="before")
    impatient.synced.settle()
    with session(impatient.synced.database) as application:
        application.execute("SELECT FROM docs_embedding FOR UPDATE")
        impatient.change(1, "after")
        turns(impatient)
        assert paid_for(impatient, "after") == 1
        assert impatient.synced.dead() == [], "no row is at fault for a lock"
        application.rollback()
    ends_well(impatient)


@pytest.mark.parametrize("point", [Failpoint.WRITE_WRITTEN, Failpoint.WRITE_ACKED])
def test_a_forced_re_embed_is_bounded_as_well(
    impatient: Steps, armed: Callable[[Failpoint], None], tmp_path: Path, point: Failpoint
) -> None:
    impatient.insert(_1="one", _2="two")
    impatient.synced.settle()
    request_reembed(impatient.runtime.database, "docs", Reembed(force=True))
    armed(point)
    turns(impatient)
    assert most_paid(impatient) <= 1 + ATTEMPTS
    (tmp_path / "failpoints" / point).unlink()
    ends_well(impatient)


def test_an_interrupted_call_may_have_been_paid_for_and_uses_up_an_attempt(impatient: Steps) -> None:
    impatient.insert(_1="one")

    def interrupt() -> None:
        raise KeyboardInterrupt

    for _ in range(ATTEMPTS):
        impatient.end_backoffs()
        with pytest.raises(KeyboardInterrupt):
            impatient.process(Lane.LIVE, during=interrupt)
    assert impatient.synced.dead() == [([1], "worker_failed")]
