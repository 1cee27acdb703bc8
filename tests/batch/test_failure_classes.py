"""Every class of failure, through the whole pipeline: what `status` says, what it costs the rows, and when work resumes.

The reasons are also those of docs/failures.md: each case names its row there.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import pgvector_sync
from pgvector_sync.batch.failure import TOO_SLOW
from pgvector_sync.embedding.network import http_connection
from pgvector_sync.errors import BrokenContract, InputRejected, QuotaUsedUp, RateLimited, Unavailable
from pgvector_sync.model import State
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.store import dead_letters
from support.endpoint import Calls, Endpoint, deaf_address, self_signed
from support.servers import Database, Postgres, new_database
from support.steps import Steps, another_worker
from support.synced import DOCS, open_synced

DOCS_TABLE = Path(__file__).parents[2] / "docs" / "failures.md"
SECRET = "the patient's name is Erika Mustermann"
KEY = "test-key"
TEXTS = {1: "one", 2: SECRET, 3: "three"}
BACK_OFF = (1.0, 3.0)
"""The first: two seconds, with jitter of half."""


@dataclass(frozen=True)
class Case:
    """A failure on everything: the pipeline stops."""

    row: str
    """The row of the table in docs/failures.md that describes it."""
    how: dict[str, Any] = field(default_factory=dict)
    """As the endpoint's `fail` takes it."""
    state: State = State.COOLING_DOWN
    reason: str | None = None
    pause: tuple[float, float] = BACK_OFF
    """Minimum and maximum seconds until work resumes by itself."""


def answers(status: int, code: str, **headers: str) -> dict[str, Any]:
    """An error answer whose prose quotes text and key, as providers' do."""
    prose = f"invalid input {SECRET!r} for key {KEY}"
    body = json.dumps({"error": {"message": prose, "type": "error", "param": prose, "code": code}})
    return {"status": status, "body": body, "headers": {k.replace("_", "-"): v for k, v in headers.items()}}


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


RATE = "rate limited by the provider (429 rate_limit_exceeded)"
WHAT_TO_CHECK = "check base_url of test, and whether this machine can reach it (DNS, proxy, firewall)"
CONNECTION = f"the connection to the provider failed; {WHAT_TO_CHECK}"
QUOTA = "the provider account's quota is used up ({}); check the plan, balance and billing of your account, then resume the pipeline"
WHAT_TO_CHANGE = (
    "check the pipeline's model and dimensions, and encoding and dimensions_parameter in [providers.test], "
    "then: pgvector-sync apply"
)
NOT_JSON = "the answer isn't a JSON embeddings object"
STOPPING = {
    "429 with seconds": Case(
        "rate limit", answers(429, "rate_limit_exceeded", Retry_After="77"), reason=RATE, pause=(70, 77)
    ),
    "429 with a date": Case(
        "rate limit",
        answers(429, "rate_limit_exceeded", Retry_After=in_seconds(36_000)),
        reason=RATE,
        pause=(32_400, 36_000),
    ),
    "429 without a time": Case("rate limit", answers(429, "rate_limit_exceeded"), reason=RATE),
    **{
        f"{status}": Case("outage", answers(status, "down"), reason=f"the provider failed ({status} down)")
        for status in (500, 502, 503, 529, 424)
    },
    "503 with seconds": Case(
        "outage",
        answers(503, "down", Retry_After="60"),
        reason="the provider failed (503 down)",
        pause=(50, 60),
    ),
    # a provider's word that is also one of ours, for failures that say nothing about the provider
    "503 deadline": Case("outage", answers(503, "deadline"), reason="the provider failed (503 deadline)"),
    "429 budget": Case("rate limit", answers(429, "budget"), reason="rate limited by the provider (429 budget)"),
    "200 with an error": Case("outage", answers(200, "down"), reason="the provider failed (200 down)"),
    "200 with a rate limit": Case(
        "rate limit",
        {
            "status": 200,
            "body": '{"vectors": null, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}',
        },
        reason="rate limited by the provider (200 1002)",
    ),
    "reset": Case("connection", {"kind": "reset"}, reason=CONNECTION),
    "reset in the answer": Case("connection", {"kind": "reset_mid_body"}, reason=CONNECTION),
    "401": Case(
        "key",
        answers(401, "invalid_api_key"),
        State.MISCONFIGURED,
        "the provider rejected the API key (401 invalid_api_key); set TEST_KEY to a valid key where the workers run, and restart them",
    ),
    "403": Case(
        "forbidden",
        answers(403, "no_access"),
        State.MISCONFIGURED,
        "the provider denied access (403 no_access); check the permissions of the key and its access to the model",
    ),
    "404": Case(
        "model",
        answers(404, "model_not_found"),
        State.MISCONFIGURED,
        "the provider rejected the call (404 model_not_found); check the pipeline's model and base_url of test",
    ),
    **{
        answer: Case(
            "quota",
            answers(int(answer.split()[0]), answer.split()[1]),
            State.MISCONFIGURED,
            QUOTA.format(answer),
        )
        for answer in (
            *("429 insufficient_quota", "403 billing_not_active", "400 billing_hard_limit_reached"),
            *("402 no_money", "200 insufficient_balance"),
        )
    },
    **{
        f"{status} for every input": Case(
            "refused parameter",
            answers(status, "unknown_parameter"),
            State.MISCONFIGURED,
            f"the provider rejects every text ({status} unknown_parameter){advice}",
        )
        for status, advice in ((400, f"; {WHAT_TO_CHANGE}"), (413, ""), (422, f"; {WHAT_TO_CHANGE}"))
    },
    "redirect": Case(
        "redirect",
        {"kind": "redirect"},
        State.MISCONFIGURED,
        "the provider answered with a redirect, which isn't followed (307); set base_url of test to the final address",
    ),
    "no vectors": Case(
        "broken answer",
        {"status": 200, "body": '{"object": "list", "data": []}'},
        State.MISCONFIGURED,
        'the answer contains no vectors; if this persists, set encoding = "float" for the provider: some endpoints '
        "answer this to base64",
    ),
    **{
        kind: Case("broken answer", {"kind": kind}, State.MISCONFIGURED, reason)
        for kind, reason in {
            "wrong_count": "expected 3 vectors, got 2",
            "wrong_dimension": "expected vectors of 8 dimensions, got 7; check the pipeline's `dimensions`; "
            "a model with a fixed size accepts only that one",
            "nan": "a vector contains NaN or infinity",
            "infinity": "a vector contains NaN or infinity",
            "zero": "a vector is all zeros",
            "truncated": NOT_JSON,
            "html": NOT_JSON,
        }.items()
    },
}


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


# -- the table of the docs ----------------------------------------------------------------------------------


def table(heading: str) -> dict[str, list[str]]:
    """First cell → the others, of the table behind this heading."""
    behind = DOCS_TABLE.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in behind.splitlines() if line[:1] == "|"
    ]
    return {row[0].strip("| "): row[1:] for row in rows[2:]}


def documented(case: Case) -> bool:
    """Whether the docs promise this state and reason; `…` stands for what varies."""
    state, reasons, *_ = table("Failures of the provider")[case.row]
    patterns = [re.escape(reason).replace("…", ".+") for reason in re.findall(r"`([^`]+)`", reasons)]
    return state == f"`{case.state.value}`" and any(re.match(p, str(case.reason)) for p in patterns)


def test_the_docs_list_every_failure_of_the_provider_and_no_other() -> None:
    tested = {case.row for case in STOPPING.values()} | {"timeout", "certificate", "unreachable", "dialect"}
    tested |= {"environment"}  # tests/embedding/test_surroundings.py
    tested |= {"host", "binding"}  # tests/embedding/test_hosts.py
    tested |= {"proxy", "denying proxy"}  # tests/embedding/test_proxies.py
    tested |= {"authority"}  # tests/embedding/test_authorities.py
    tested |= {"addition"}  # tests/security/test_provider_row.py
    assert set(table("Failures of the provider")) == tested


def test_the_docs_list_every_class_of_dead_letters_and_no_other() -> None:
    worker = Path(pgvector_sync.__file__).parent
    source = "".join(path.read_text("utf-8") for path in worker.rglob("*.py"))
    classes = set(re.findall(r'Failure\(\s*"(\w+)"', source))
    classes |= {error.name for error in (InputRejected, Unavailable, BrokenContract, RateLimited, QuotaUsedUp)}
    classes |= {"worker_crashed", "key_refused_…", TOO_SLOW}
    assert {name.strip("`") for name in table("Dead letters")} == classes
