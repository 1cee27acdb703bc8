"""The check that every test ends with finds a leak: in a line, an event, a span, a process and a table of ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgvector_sync.embedding import refusal as answers
from pgvector_sync.telemetry import emit, spans
from pgvector_sync.telemetry.event import Event, Words, event
from pgvector_sync.telemetry.events.batch import PipelineCoolingDown
from support import canaries
from support.cluster import Cluster
from support.processes import Processes
from support.steps import Steps
from support.synced import _is_witnessed

TEXT = "Erika Mustermann is ill"


@event("leaky")
class Leaky(Event):
    """An event that no test of events would let pass."""

    words: str


def leaks(action: Callable[[], object]) -> list[str]:
    """What the check would report if a test did this while a row has TEXT."""
    with pytest.raises(AssertionError, match="leaked") as failed, canaries.watched() as witness:  # noqa: PT012
        witness.private([TEXT])
        action()
    return str(failed.value).splitlines()[1:]


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(lambda: logging.getLogger("some.library").warning("sent %s", TEXT), id="a library's line"),
        pytest.param(lambda: emit(PipelineCoolingDown(pipeline="docs", reason=Words(TEXT))), id="an event"),
        pytest.param(lambda: emit(Leaky(words=f"({TEXT!r},)")), id="a repr"),
        pytest.param(lambda: spans.add_ended("x", {"text": TEXT}, started=1, ended=2), id="a span"),
    ],
)
def test_a_text_that_is_logged_is_found(action: Callable[[], object]) -> None:
    assert leaks(action)


def test_a_text_in_what_a_worker_prints_is_found_and_in_what_a_search_prints_is_meant(tmp_path: Path) -> None:
    def run(command: str) -> None:
        processes = Processes(tmp_path, {})
        processes.start(sys.executable, "-c", f"print({TEXT!r})", command).wait()
        processes.end()

    assert leaks(lambda: run("worker"))
    with canaries.watched() as witness:
        witness.private([TEXT])
        run("search")


def test_a_secret_is_found_even_there(tmp_path: Path) -> None:
    def run() -> None:
        canaries.witness().secrets.add(TEXT)
        processes = Processes(tmp_path, {})
        processes.start(sys.executable, "-c", f"print({TEXT!r})", "search").wait()
        processes.end()

    assert leaks(run)


def witnessed(docs: Steps) -> list[str]:
    """What the check reports of this test so far."""
    _is_witnessed(docs.synced.database, docs.synced.endpoint)
    canaries.witness().forgiven = True
    return canaries.witness().leaks()


def test_a_dead_letter_that_quotes_its_row_is_found(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgvector_sync.batch.write.safe_name", str)
    docs.synced.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not %', (SELECT body FROM public.docs WHERE id = NEW.id); END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON docs_embedding FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION refuse()",
    )
    docs.insert(_1=TEXT, _2="another")
    docs.process()
    assert TEXT in docs.work(1, "error_message")
    assert any("a table of ours" in leak and TEXT in leak for leak in witnessed(docs))


def test_a_providers_own_words_in_a_reason_are_found(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint quotes texts and key in every refusal, as some providers do."""
    monkeypatch.setattr(answers.Refusal, "answer", lambda self, _: f"{self.status} {self.body}")
    docs.synced.endpoint.fail(status=401)
    docs.insert(_1=TEXT)
    docs.process()
    found = "\n".join(witnessed(docs))
    assert canaries.ECHO in found
    assert "a table of ours" in found
    assert "the event misconfigured" in found


def test_every_row_of_the_default_source_has_a_canary(cluster: Cluster) -> None:
    cluster.insert(2)
    assert cluster.synced.database.value("SELECT count(*) FROM docs WHERE unread = %s", canaries.UNREAD) == 2
