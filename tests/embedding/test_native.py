"""What holds for all providers' own APIs: Cohere, Voyage AI and Gemini."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.embedder import Embedder, open_embedder
from pgvector_sync.errors import (
    BrokenContract,
    CallRejected,
    InputRejected,
    Misconfigured,
    RateLimited,
    Unavailable,
)
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings
from support.endpoint import tokens_of, vector_of
from support.native_apis import Cohere, Gemini, Voyage
from support.native_endpoint import KEY, Api, NativeEndpoint
from support.waiting import within

TEXTS = ["one", "two", "three"]
APIS: dict[str, tuple[type[Api], Spec, int]] = {
    "cohere": (Cohere, Spec("embed-v4.0", 256), 96),
    "voyage": (Voyage, Spec("voyage-4", 256), 1_000),
    "gemini": (Gemini, Spec("gemini-embedding-001", 256), 100),
}
"""Dialect → its API, a spec, and the number of texts that a request may have."""
ENVIRONMENT = {"CO_API_KEY": KEY, "VOYAGE_API_KEY": KEY, "GEMINI_API_KEY": KEY}


@pytest.fixture(params=APIS)
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def endpoint(dialect: str) -> Iterator[NativeEndpoint]:
    with NativeEndpoint(APIS[dialect][0]()) as endpoint:
        yield endpoint


@pytest.fixture
def spec(dialect: str) -> Spec:
    return APIS[dialect][1]


def provider_of(dialect: str, endpoint: NativeEndpoint) -> Provider:
    """The built-in provider, at the endpoint."""
    built_in = DIALECTS[dialect].built_in
    assert built_in is not None
    return replace(built_in, base_url=endpoint.base_url)


def settings_for(dialect: str, **values: Any) -> Settings:
    built_in = DIALECTS[dialect].built_in
    assert built_in is not None
    allowed = f"http://127.0.0.1={built_in.api_key_env}"
    return Settings(_env_file=None, allowed_hosts=allowed, provider_timeout=timedelta(seconds=10), **values)


@pytest.fixture
def embedder(dialect: str, endpoint: NativeEndpoint) -> Iterator[Embedder]:
    provider = provider_of(dialect, endpoint)
    with closing(open_embedder(provider, settings_for(dialect), ENVIRONMENT)) as embedder:
        yield embedder


def test_every_text_gets_its_own_vector_of_unit_length(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec
) -> None:
    answer = embedder.embed(TEXTS, spec, deadline=within(20))
    assert np.allclose(answer.vectors, [vector_of(text, 256) for text in TEXTS], atol=1e-6)
    assert answer.vectors.dtype == np.float32
    assert (answer.requests, answer.tokens) == (1, sum(map(tokens_of, TEXTS)))
    assert endpoint.exchanges[0].texts == TEXTS


def test_requests_are_as_large_as_the_api_allows(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec, dialect: str
) -> None:
    most = APIS[dialect][2]
    texts = [f"text {i}" for i in range(2 * most + 1)]
    answer = embedder.embed(texts, spec, deadline=within(60))
    assert np.allclose(answer.vectors, [vector_of(text, 256) for text in texts], atol=1e-6)
    assert sorted(len(exchange.texts) for exchange in endpoint.exchanges) == [1, most, most]
    assert set(endpoint.statuses) == {200}


def test_documents_and_queries_are_told_apart(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec, dialect: str
) -> None:
    for purpose in Purpose:
        embedder.embed(["text"], spec, purpose=purpose, deadline=within(20))
    document, query = (exchange.body for exchange in endpoint.exchanges)
    if dialect == "gemini":
        document, query = (body["requests"][0]["embedContentConfig"] for body in (document, query))
    differing = {name: (document[name], query[name]) for name in document if document[name] != query[name]}
    assert (
        differing
        == {
            "cohere": {"input_type": ("search_document", "search_query")},
            "voyage": {"input_type": ("document", "query")},
            "gemini": {"taskType": ("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY")},
        }[dialect]
    )


def test_a_text_that_is_too_long_is_rejected_and_never_cut_off(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec
) -> None:
    too_long = "word " * 120_000
    with pytest.raises(InputRejected) as caught:
        embedder.embed([too_long], spec, deadline=within(20))
    assert caught.value.code in {"too_many_tokens", "context_length_exceeded"}
    assert endpoint.api.cut == 0  # type: ignore[attr-defined]
    assert "word" not in f"{caught.value} {caught.value.hint}", "the provider's message isn't shown"
    assert caught.value.__context__ is None


def test_a_file_may_allow_that_texts_are_cut_off(embedder: Embedder, endpoint: NativeEndpoint, spec: Spec) -> None:
    bodies = {Cohere: {"truncate": "END"}, Voyage: {"truncation": True}, Gemini: {"autoTruncate": True}}
    body = bodies[type(endpoint.api)]  # type: ignore[index]
    embedder.embed(["word " * 120_000], replace(spec, body=body), deadline=within(20))
    assert endpoint.api.cut == 1  # type: ignore[attr-defined]


def test_a_body_overrides_the_purpose_and_the_providers_parameters(
    endpoint: NativeEndpoint, spec: Spec, dialect: str
) -> None:
    name, other = {"cohere": ("input_type", "clustering"), "voyage": ("input_type", "query")}.get(
        dialect, ("taskType", "CLUSTERING")
    )
    further, first, second = {"cohere": ("priority", 1, 2), "gemini": ("title", "one", "two")}.get(
        dialect, ("truncation", True, False)
    )
    provider = replace(provider_of(dialect, endpoint), extra_body={further: first, name: "replaced"})
    with closing(open_embedder(provider, settings_for(dialect), ENVIRONMENT)) as embedder:
        embedder.embed(TEXTS, replace(spec, body={name: other}), deadline=within(20))
        embedder.embed(TEXTS, replace(spec, body={name: other, further: second}), deadline=within(20))
    bodies = [exchange.body for exchange in endpoint.exchanges]
    if dialect == "gemini":
        bodies = [body["requests"][2]["embedContentConfig"] for body in bodies]
    assert [body[name] for body in bodies] == [other, other]
    assert [body[further] for body in bodies] == [first, second]


@pytest.mark.parametrize("where", ["extra_body", "body"])
def test_nothing_that_decides_the_answer_can_be_overridden(
    endpoint: NativeEndpoint, spec: Spec, dialect: str, where: str
) -> None:
    """A row of the database is checked like the file."""
    names = {
        "cohere": ("texts", "inputs", "images", "model", "output_dimension", "embedding_types"),
        "voyage": ("input", "model", "output_dimension", "output_dtype", "encoding_format"),
        "gemini": ("model", "content", "requests", "outputDimensionality", "embedContentConfig"),
    }[dialect]
    for name in names:
        provider = provider_of(dialect, endpoint)
        if where == "extra_body":
            provider = replace(provider, extra_body={name: "x"})
        else:
            spec = replace(spec, body={name: "x"})
        with (
            closing(open_embedder(provider, settings_for(dialect), ENVIRONMENT)) as embedder,
            pytest.raises(Misconfigured, match=f"{where}.{name} of"),
        ):
            embedder.embed(TEXTS, spec, deadline=within(20))
    assert endpoint.exchanges == []


def test_only_the_headers_of_the_api_are_sent(
    endpoint: NativeEndpoint, spec: Spec, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "our-organization")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Goog-Api-Key: another\nAuthorization: Bearer another")
    settings = settings_for(dialect, openai_base_url=endpoint.base_url)  # whose headers are for OpenAI's dialect
    with closing(open_embedder(provider_of(dialect, endpoint), settings, ENVIRONMENT)) as embedder:
        embedder.embed(["text"], spec, deadline=within(20))
    headers = endpoint.exchanges[0].headers
    known = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
    carries = {"gemini": ("x-goog-api-key", KEY)}.get(dialect, ("authorization", f"Bearer {KEY}"))
    assert headers.keys() - known == {carries[0]}
    assert headers[carries[0]] == carries[1]


def test_a_wrong_key_and_an_unknown_model_stop_the_pipeline_with_the_reason(
    dialect: str, endpoint: NativeEndpoint, embedder: Embedder, spec: Spec
) -> None:
    with pytest.raises(CallRejected, match="the provider doesn't know the model"):
        embedder.embed(["text"], replace(spec, model="no-such-model"), deadline=within(20))
    provider = provider_of(dialect, endpoint)
    assert provider.api_key_env is not None
    with (
        closing(open_embedder(provider, settings_for(dialect), {provider.api_key_env: "wrong-key"})) as other,
        pytest.raises(CallRejected, match="the provider rejected the API key") as caught,
    ):
        other.embed(["text"], spec, deadline=within(20))
    assert provider.api_key_env in (caught.value.hint or "")
    assert "wrong-key" not in f"{caught.value} {caught.value.hint}"


def test_outages_are_retried_and_rate_limits_are_not(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec
) -> None:
    endpoint.fail(503, {}, times=2)
    assert embedder.embed(["text"], spec, deadline=within(30)).requests == 3
    endpoint.fail(429, {}, times=1, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as caught:
        embedder.embed(["text"], spec, deadline=within(30))
    assert caught.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("body", [None, [], "text", {"message": 5, "detail": {"a": 1}, "error": "no"}, [[]], [{}]])
def test_an_error_of_another_form_is_told_by_its_status(
    embedder: Embedder, endpoint: NativeEndpoint, spec: Spec, body: object
) -> None:
    endpoint.fail(500, body)
    with pytest.raises(Unavailable, match=r"\(500\)"):
        embedder.embed(["text"], spec, deadline=within(30))


def _change(change: Callable[[dict[str, object]], object], api: type[Api]) -> Api:
    class Changed(api):  # type: ignore[valid-type,misc]
        def answer(self, texts: list[str], body: object) -> object:
            return change(super().answer(texts, body))

    return Changed()


@pytest.mark.parametrize(
    ("break_answer", "code"),
    [
        (lambda answer: [], "malformed"),
        (lambda answer: {}, "malformed"),
        (lambda answer: dict.fromkeys(answer, 5), "malformed"),
        (lambda answer: {key: [1, 2, 3] for key in answer}, "malformed"),
    ],
)
def test_an_answer_of_another_form_is_not_written(
    dialect: str, embedder: Embedder, endpoint: NativeEndpoint, spec: Spec, break_answer: Callable, code: str
) -> None:
    endpoint.api = _change(break_answer, type(endpoint.api))
    with pytest.raises(BrokenContract) as caught:
        embedder.embed(TEXTS, spec, deadline=within(20))
    assert caught.value.code == code


def test_too_few_vectors_are_not_written(
    dialect: str, embedder: Embedder, endpoint: NativeEndpoint, spec: Spec
) -> None:
    vectors = {"cohere": lambda a: a["embeddings"]["float"], "gemini": lambda a: a["embeddings"]}
    endpoint.api = _change(
        lambda answer: [vectors.get(dialect, lambda a: a["data"])(answer).pop(), answer][1], type(endpoint.api)
    )
    with pytest.raises(BrokenContract, match="expected 3 vectors, got 2"):
        embedder.embed(TEXTS, spec, deadline=within(20))
