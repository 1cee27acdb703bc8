"""A second remote dialect, in one class, against an endpoint that serves nothing like OpenAI's API."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from pgvector_sync.embedding.answer import Answer, check_vectors
from pgvector_sync.embedding.dialects import DIALECTS, dialect_named, dialect_of
from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import HttpDialect, Request
from pgvector_sync.embedding.embedder import Embedder, open_embedder
from pgvector_sync.embedding.refusal import Refusal, by_status
from pgvector_sync.errors import InputRejected, Misconfigured, ProviderError, Unavailable
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings
from support.endpoint import vector_of
from support.waiting import within

SPEC = Spec("engine-1", 8)


class Terse(HttpDialect):
    """A dialect with other names, other forms of answers and refusals, smaller limits, and a purpose."""

    name = "terse"
    endpoint = "/vectorize"

    def limits(self, provider: Provider) -> Limits:
        return Limits(max_inputs=10, parallel_requests=2)

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        body = {"engine": spec.model, "size": spec.dimensions, "as": purpose.value, "texts": list(texts)}
        return Request(self.endpoint, body)

    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        rows = [np.array(row, dtype=np.float32) for row in json.loads(body)["rows"]]
        return Answer(check_vectors(rows, dimensions=dimensions), tokens=None)

    def classify(self, refusal: Refusal) -> ProviderError:
        words = [refusal.body.get("why")] if isinstance(refusal.body, Mapping) else []
        code = next(iter(refusal.codes(words)), None)
        if code == "too_long":  # says so with 500
            return InputRejected("the text is too long", status=refusal.status, code=code)
        return by_status(refusal, code)


class Served:
    """Answers as `Terse` expects; each pair in `refusals` is the status and body of one of the next answers."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, Any]] = []
        self.base_url = ""

    def answer(self, path: str, key: str | None, body: dict[str, Any]) -> tuple[int, Any]:
        if (path, key) != ("/v9/vectorize", "Bearer test-key"):
            return 404, {"why": "not_here"}
        self.bodies.append(body)
        if self.refusals:
            return self.refusals.pop(0)
        return 200, {"rows": [vector_of(text, body["size"]).tolist() for text in body["texts"]]}


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = served.answer(self.path, self.headers["Authorization"], request)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.base_url = f"http://127.0.0.1:{server.server_address[1]}/v9"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@contextmanager
def calling(base_url: str, **fields: Any) -> Iterator[Embedder]:
    settings = Settings(
        _env_file=None, allowed_hosts="http://127.0.0.1=TEST_KEY", provider_timeout=timedelta(seconds=10)
    )
    provider = Provider("terse", base_url=base_url, api_key_env="TEST_KEY", dialect="terse", **fields)
    with closing(open_embedder(provider, settings, {"TEST_KEY": "test-key"})) as embedder:
        yield embedder


@pytest.fixture
def embedder(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    monkeypatch.setitem(DIALECTS, "terse", Terse())
    with calling(served.base_url) as embedder:
        yield embedder


def test_texts_are_packed_by_the_dialects_limits_and_come_back_in_order(
    embedder: Embedder, served: Served
) -> None:
    texts = [f"text {i}" for i in range(25)]
    answer = embedder.embed(texts, SPEC, deadline=within(60))
    assert np.allclose(answer.vectors, [vector_of(text, 8) for text in texts])
    assert sorted(len(body["texts"]) for body in served.bodies) == [5, 10, 10]
    assert (answer.requests, answer.left) == (3, ())
    assert answer.tokens == sum(len("".join(body["texts"])) // 4 for body in served.bodies), "estimated"


@pytest.mark.parametrize("purpose", Purpose)
def test_the_purpose_reaches_the_request(embedder: Embedder, served: Served, purpose: Purpose) -> None:
    embedder.embed(["text"], SPEC, purpose=purpose, deadline=within(60))
    assert served.bodies == [{"engine": "engine-1", "size": 8, "as": purpose.value, "texts": ["text"]}]


def test_a_text_is_a_document_unless_the_caller_says_otherwise(embedder: Embedder, served: Served) -> None:
    embedder.embed(["text"], SPEC, deadline=within(60))
    assert served.bodies[0]["as"] == "document"


def test_a_dialect_needs_no_retries_of_its_own(embedder: Embedder, served: Served) -> None:
    served.refusals = [(503, {}), (502, {})]
    assert embedder.embed(["text"], SPEC, deadline=within(60)).requests == 3
    served.refusals = [(500, {"why": "down"})] * 3
    with pytest.raises(Unavailable, match=r"\(500 down\)"):
        embedder.embed(["text"], SPEC, deadline=within(60))


def test_the_dialect_classifies_a_refusal(embedder: Embedder, served: Served) -> None:
    served.refusals = [(500, {"why": "too_long"})]
    with pytest.raises(InputRejected) as caught:
        embedder.embed(["text"], SPEC, deadline=within(60))
    assert (caught.value.code, len(served.bodies)) == ("too_long", 1)


@pytest.mark.parametrize("why", ["the text was Erika Mustermann", "test-key", ["too_long"], None])
def test_what_a_refusal_says_is_shown_only_as_a_short_code(embedder: Embedder, served: Served, why: Any) -> None:
    served.refusals = [(400, {"why": why})]
    with pytest.raises(InputRejected) as caught:
        embedder.embed(["text"], SPEC, deadline=within(60))
    assert (caught.value.code, str(caught.value)) == (None, "the provider rejected the input (400)")


def test_the_dialects_own_path_may_not_be_in_the_address(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "terse", Terse())
    with calling(f"{served.base_url}/vectorize") as embedder, pytest.raises(Misconfigured) as caught:
        embedder.prepare(SPEC)
    assert "ends in /vectorize" in str(caught.value)
    assert served.bodies == []


def test_a_budget_is_kept_whatever_the_dialect(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "terse", Terse())
    with calling(served.base_url, tokens_per_minute=600) as embedder:
        embedder.embed(["a" * 60], SPEC, deadline=within(60))
        with pytest.raises(ProviderError, match="the budget of this provider and model is used up"):
            embedder.embed(["a" * 4_000] * 2, SPEC, deadline=within(1))
    assert len(served.bodies) == 1


def test_prepare_checks_the_key_without_a_call(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "terse", Terse())
    provider = Provider("terse", base_url=served.base_url, api_key_env="TEST_KEY", dialect="terse")
    settings = Settings(_env_file=None, allowed_hosts="http://127.0.0.1=TEST_KEY")
    with (
        closing(open_embedder(provider, settings, {})) as embedder,
        pytest.raises(Misconfigured, match="TEST_KEY is not set"),
    ):
        embedder.prepare(SPEC)
    with closing(open_embedder(provider, settings, {"TEST_KEY": "test-key"})) as embedder:
        embedder.prepare(SPEC)
    assert served.bodies == []


def test_a_dialect_that_this_version_does_not_know_fails_when_it_is_called() -> None:
    """A newer program may have stored it; a worker must continue with all its other pipelines."""
    provider = Provider("new", base_url="https://api.openai.com/v1", dialect="of-the-future")
    with closing(open_embedder(provider, Settings(_env_file=None), {})) as embedder:
        for call in (embedder.prepare, lambda spec: embedder.embed(["text"], spec, deadline=within(60))):
            with pytest.raises(Misconfigured) as caught:
                call(SPEC)
            assert str(caught.value) == "this version of pgvector-sync doesn't know the dialect of new"
            assert "upgrade" in str(caught.value.hint)
    assert dialect_named("of-the-future").remote


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_dialect_is_consistent_with_the_provider_that_it_brings(name: str) -> None:
    dialect = DIALECTS[name]
    assert dialect.name == name
    assert dialect.built_in is not None
    assert dialect_of(dialect.built_in) is dialect
    assert (dialect.built_in.base_url is not None) == dialect.needs_address
    assert (dialect.built_in.api_key_env is not None) <= dialect.takes_key
    assert dialect.limits(dialect.built_in).max_inputs > 0
    assert dialect.remote or not dialect.billed


def test_the_registry_is_asked_without_loading_an_sdk_or_a_model() -> None:
    heavy = "{'openai', 'httpx2', 'numpy', 'tokenizers', 'tenacity'}"
    program = f"import sys, pgvector_sync.embedding.dialects; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
