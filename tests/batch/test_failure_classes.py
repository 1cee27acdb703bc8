"""Every class of failure, through the whole pipeline: what `status` says, what it costs the rows, and when work resumes.

The reasons are also those of docs/failures.md: each case names its row there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from batch.failure_cases import CONNECTION, KEY, SECRET, STOPPING, WHAT_TO_CHECK, Case, answers, documented
from pgvector_sync.embedding.network import http_connection
from pgvector_sync.model import State
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.store import dead_letters
from support.endpoint import Calls, Endpoint, deaf_address, self_signed
from support.servers import Database, Postgres, new_database
from support.steps import Steps, another_worker
from support.synced import DOCS, open_synced

TEXTS = {1: "one", 2: SECRET, 3: "three"}


@pytest.fixture(scope="module")
def pipeline(
    postgres: Postgres,
    template: Database,
    shared: tuple[Endpoint, Embedders],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Steps]:
    """One for all cases: making a database for each would take longer than the cases do."""
    folder = tmp_path_factory.mktemp("failures")
    with (
        new_database(postgres, template=template.name) as database,
        pytest.MonkeyPatch.context() as patch,
        open_synced(database, shared, folder, patch) as synced,
    ):
        synced.run(DOCS)
        synced.pipeline()
        yield Steps(synced, synced.runtime)


@pytest.fixture
def docs(pipeline: Steps) -> Iterator[Steps]:
    """Three rows wait to be embedded, one of them a secret; afterwards nothing is left."""
    pipeline.synced.endpoint.calls, pipeline.synced.endpoint.latency = Calls(), 0.0
    pipeline.insert(**{f"_{key}": text for key, text in TEXTS.items()})
    yield pipeline
    pipeline.synced.endpoint.heal()
    pipeline.synced.run(
        "DELETE FROM docs",
        "TRUNCATE docs_embedding, pgvector_sync.outbox, pgvector_sync.parked, pgvector_sync.work",
        "UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL, failures = 0",
    )


def nothing_leaks(docs: Steps) -> None:
    """Neither text nor key in any table of ours (`outbox` and `work` hold keys of rows, not texts)."""
    for table in ("pipeline", "work", "outbox", "parked", "run", "usage"):
        shown = str(docs.synced.database.execute(f"SELECT t::text FROM pgvector_sync.{table} AS t"))
        assert "Mustermann" not in shown
        assert KEY not in shown


def stops(docs: Steps, case: Case) -> None:
    """The pipeline waits and says why; no row has lost anything."""
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (0, 0, 3)
    assert docs.synced.vectors() == {}
    [status] = read_status(docs.runtime.database)
    assert (status.state, status.reason) == (case.state, case.reason)
    assert (status.waiting, status.in_flight, status.dead) == (3, 0, 0)
    assert documented(case)
    rows = "SELECT DISTINCT lease, attempts, verdict, error_class, error_message FROM pgvector_sync.work"
    assert docs.synced.database.execute(rows) == [(None, 0, None, None, None)]
    nothing_leaks(docs)
    until = "SELECT extract(epoch FROM retry_at - statement_timestamp())::float8 FROM pgvector_sync.pipeline"
    least, most = case.pause
    assert least - 0.5 <= docs.synced.database.value(until) <= most
    assert docs.try_claim() is None, "no worker calls before that"


def goes_on(docs: Steps) -> None:
    docs.end_backoffs()
    docs.synced.sync()
    assert docs.state() == (State.ACTIVE, None)
    assert docs.in_work() == []


@pytest.mark.parametrize("case", STOPPING.values(), ids=STOPPING)
@pytest.mark.quick_variants(5)
def test_a_failure_of_the_provider_stops_the_pipeline_and_costs_no_row_anything(docs: Steps, case: Case) -> None:
    docs.synced.endpoint.fail(**case.how)
    stops(docs, case)
    docs.synced.endpoint.heal()
    goes_on(docs)


@contextmanager
def another_address(docs: Steps, base_url: str) -> Iterator[None]:
    docs.synced.run(f"UPDATE pgvector_sync.provider SET base_url = '{base_url}'")
    yield
    docs.synced.run(f"UPDATE pgvector_sync.provider SET base_url = '{docs.synced.endpoint.base_url}'")


def test_a_refused_connection_stops_it(docs: Steps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with another_address(docs, f"http://127.0.0.1:{port}/v1"):
        stops(docs, Case("connection", reason=CONNECTION))
    goes_on(docs)


def test_an_address_that_accepts_no_connection_stops_it(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "CONNECT_TIMEOUT", timedelta(seconds=0.2))
    reason = f"the provider accepted no connection in time; {WHAT_TO_CHECK}"
    with deaf_address() as base_url, another_address(docs, base_url):
        stops(docs, Case("unreachable", reason=reason))
    goes_on(docs)


def test_a_dialect_that_this_version_does_not_know_stops_it(docs: Steps) -> None:
    reason = (
        "this version of pgvector-sync doesn't know the dialect of test; upgrade pgvector-sync where the workers run, "
        "or correct `dialect` in the file, then: pgvector-sync apply"
    )
    docs.synced.run("UPDATE pgvector_sync.provider SET dialect = 'of-the-future'")
    stops(docs, Case("dialect", state=State.MISCONFIGURED, reason=reason))
    docs.synced.run("UPDATE pgvector_sync.provider SET dialect = 'openai'")
    goes_on(docs)


def test_an_untrusted_certificate_stops_it(docs: Steps, tmp_path: Path) -> None:
    reason = (
        "the provider's TLS certificate is not trusted; "
        "check base_url of test; for a private CA, set ca_file of test to the path of its certificate"
    )
    with Endpoint(certificate=self_signed(tmp_path)) as untrusted, another_address(docs, untrusted.base_url):
        stops(docs, Case("certificate", state=State.MISCONFIGURED, reason=reason))
        assert untrusted.calls.requests == 0
    goes_on(docs)


def test_a_provider_that_hangs_stops_it(docs: Steps) -> None:
    docs.synced.endpoint.fail("hang")
    with another_worker(docs.synced, provider_timeout=0.1) as impatient:
        stops(impatient, Case("timeout", reason="the provider did not answer in time"))
    docs.synced.endpoint.heal()
    goes_on(docs)


def test_an_unknown_model_stops_it(docs: Steps) -> None:
    case = STOPPING["404"]
    docs.synced.run("UPDATE pgvector_sync.pipeline SET model = 'no-such-model'")
    stops(docs, case)
    docs.synced.run("UPDATE pgvector_sync.pipeline SET model = 'text-embedding-3-small'")
    goes_on(docs)


def becomes_a_dead_letter(docs: Steps, answer: str) -> None:
    """The secret's row alone; it can be requeued."""
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked, outcome.released) == (2, 1, 0)
    assert docs.has_vector_of(1, TEXTS[1])
    assert docs.has_vector_of(3, TEXTS[3])
    with docs.runtime.database.transaction() as connection:
        [letter] = dead_letters.dead_letters(connection, "docs", limit=10)
    assert (letter.key, letter.verdict, letter.attempts) == ((2,), "dead", 1)
    assert (letter.error_class, letter.message) == ("input_rejected", f"the provider rejected the input {answer}")
    [status] = read_status(docs.runtime.database)
    assert (status.state, status.reason, status.waiting, status.dead) == (State.ACTIVE, None, 0, 1)
    nothing_leaks(docs)


@pytest.mark.parametrize(("status", "code"), [(400, "content_filter"), (413, "too_much"), (422, "unprocessable")])
def test_a_refused_input_is_a_dead_letter_at_once_and_all_others_pass(docs: Steps, status: int, code: str) -> None:
    docs.synced.endpoint.fail(marker="Mustermann", **answers(status, code))
    becomes_a_dead_letter(docs, f"({status} {code})")
    docs.synced.endpoint.heal()
    with docs.runtime.database.transaction() as connection:
        assert dead_letters.requeue(connection, "docs", None) == 1
    goes_on(docs)


def test_a_text_that_is_too_long_for_the_model_is_judged_by_the_provider(docs: Steps) -> None:
    docs.change(2, f"{SECRET} " * 1_000)
    with another_worker(docs.synced, text_limit_bytes=100_000) as generous:
        becomes_a_dead_letter(generous, "(400 context_length_exceeded)")
    docs.change(2, "short")
    goes_on(docs)


@pytest.mark.parametrize("kind", ["shuffled", "lists", "no_usage", "missing_index"])
def test_an_answer_in_another_form_is_as_good(docs: Steps, kind: str) -> None:
    docs.synced.endpoint.fail(kind)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, docs.synced.endpoint.calls.requests) == (3, 1)
    goes_on(docs)


def test_duplicate_indexes_tell_nothing_about_whose_vector_it_is_and_each_row_goes_alone(docs: Steps) -> None:
    docs.synced.endpoint.fail("duplicate_index")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.parked) == (3, 0)
    goes_on(docs)
