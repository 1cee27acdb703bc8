"""What is peculiar to one provider's own API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pgvector_sync.embedding.budget import open_budget
from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.embedder import Embedder, open_embedder
from pgvector_sync.errors import (
    BrokenContract,
    BudgetExhausted,
    CallRejected,
    InputRejected,
    Misconfigured,
    ProviderError,
    RateLimited,
    Unavailable,
)
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.settings import Settings
from support.endpoint import vector_of
from support.native_apis import Cohere, Gemini, Voyage
from support.native_endpoint import KEY, NativeEndpoint
from support.waiting import within

COHERE, VOYAGE, GEMINI = Spec("embed-v4.0", 256), Spec("voyage-4", 256), Spec("gemini-embedding-001", 256)
SPECS = {"cohere": COHERE, "voyage": VOYAGE, "gemini": GEMINI}


def provider_at(endpoint: NativeEndpoint) -> Provider:
    name = endpoint.api.dialect
    return Provider(name, base_url=endpoint.base_url, api_key_env="TEST_KEY", dialect=name)


@contextmanager
def calling(endpoint: NativeEndpoint, **fields: Any) -> Iterator[Embedder]:
    settings = Settings(
        _env_file=None, allowed_hosts="http://127.0.0.1=TEST_KEY", provider_timeout=timedelta(seconds=10)
    )
    provider = replace(provider_at(endpoint), **fields)
    with closing(open_embedder(provider, settings, {"TEST_KEY": KEY})) as embedder:
        yield embedder


def failure(endpoint: NativeEndpoint, spec: Spec, status: int, body: Any, **how: Any) -> ProviderError:
    """Return the error of a call that is answered so."""
    endpoint.fail(status, body, times=1, **how)
    with calling(endpoint) as embedder, pytest.raises(ProviderError) as caught:
        embedder.embed(["text"], spec, deadline=within(20))
    return caught.value


@pytest.fixture
def cohere() -> Iterator[NativeEndpoint]:
    with NativeEndpoint(Cohere()) as endpoint:
        yield endpoint


@pytest.fixture
def voyage() -> Iterator[NativeEndpoint]:
    with NativeEndpoint(Voyage()) as endpoint:
        yield endpoint


@pytest.fixture
def gemini() -> Iterator[NativeEndpoint]:
    with NativeEndpoint(Gemini()) as endpoint:
        yield endpoint


# -- Cohere ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "dimensions", "sent"),
    [("embed-english-v3.0", 1024, False), ("embed-english-light-v3.0", 384, False), ("embed-v5.0", 256, True)],
)
def test_cohere_is_asked_for_a_size_where_the_model_offers_several(
    cohere: NativeEndpoint, model: str, dimensions: int, sent: bool
) -> None:
    with calling(cohere) as embedder:
        assert len(embedder.embed(["text"], Spec(model, dimensions), deadline=within(20)).vectors[0]) == dimensions
    assert ("output_dimension" in cohere.exchanges[0].body) == sent


def test_the_texts_that_cohere_repeats_may_be_long_and_full_of_punctuation(cohere: NativeEndpoint) -> None:
    texts = [f"{i} é" + "\x01" * 8_000 + ',"{[' * 4_000 for i in range(20)]  # 1.5 MB as JSON
    with calling(cohere) as embedder:
        vectors = embedder.embed(texts, COHERE, deadline=within(30)).vectors
    assert np.allclose(vectors, [vector_of(text, 256) for text in texts])


def test_repeated_texts_excuse_no_other_length(cohere: NativeEndpoint) -> None:
    class Padded(Cohere):
        def answer(self, texts: list[str], body: Any) -> Any:
            return super().answer(texts, body) | {"padding": self.padding}

    cohere.api = api = Padded()
    longer, more = "the answer is longer than", "the answer contains more than 1 vectors"
    for padding, words in (("x" * 2_000_000, longer), ([{}] * 250_500, more)):
        api.padding = padding  # type: ignore[attr-defined]
        with calling(cohere) as embedder, pytest.raises(BrokenContract, match=words):
            embedder.embed(["text"], COHERE, deadline=within(30))


def test_cohere_says_that_a_quota_is_used_up_in_two_ways(cohere: NativeEndpoint) -> None:
    unpaid = {
        "message": "Please add or update your payment method at https://dashboard.cohere.com/billing to continue"
    }
    trial = {
        "message": "You are using a Trial key, which is limited to 1000 API calls / month. You can continue to use "
        "the Trial key for free or upgrade to a Production key"
    }
    for status, body in ((402, unpaid), (429, trial)):
        error = failure(cohere, COHERE, status, body)
        assert isinstance(error, CallRejected)
        assert "quota is used up" in str(error)
    minute = {"message": "You are using a Trial key, which is limited to 40 API calls / minute."}
    assert isinstance(failure(cohere, COHERE, 429, minute), RateLimited)


def test_cohere_blocks_a_word_with_a_status_of_its_own(cohere: NativeEndpoint) -> None:
    error = failure(cohere, COHERE, 498, {"message": "blocked: Erika Mustermann"})
    assert isinstance(error, InputRejected)
    assert str(error) == "the provider rejected the input (498 blocked_word)"


def test_a_request_that_cohere_cancels_is_repeated(cohere: NativeEndpoint) -> None:
    cohere.fail(499, {"message": "request cancelled"}, times=2)
    with calling(cohere) as embedder:
        assert embedder.embed(["text"], COHERE, deadline=within(20)).requests == 3


def test_a_cohere_model_without_embeddings_is_the_wrong_model(cohere: NativeEndpoint) -> None:
    with (
        calling(cohere) as embedder,
        pytest.raises(CallRejected, match="the provider doesn't know the model") as caught,
    ):
        embedder.embed(["text"], Spec("command-r", 256), deadline=within(20))
    assert (caught.value.status, caught.value.code) == (400, "model_not_supported")


# -- Voyage ----------------------------------------------------------------------------------------------------------


def test_voyage_is_asked_for_base64_and_for_a_size_only_where_there_are_several(voyage: NativeEndpoint) -> None:
    with calling(voyage) as embedder:
        embedder.embed(["text"], VOYAGE, deadline=within(20))
        embedder.embed(["text"], Spec("voyage-law-2", 1024), deadline=within(20))
    fixed = {"input": ["text"], "encoding_format": "base64", "output_dtype": "float", "truncation": False}
    fixed["input_type"] = "document"
    assert [exchange.body for exchange in voyage.exchanges] == [
        {**fixed, "model": "voyage-4", "output_dimension": 256},
        {**fixed, "model": "voyage-law-2"},
    ]


def test_requests_to_voyage_stay_within_the_tokens_of_its_strictest_models(voyage: NativeEndpoint) -> None:
    texts = [f"{i} " + "word " * 6_000 for i in range(30)]  # 225,000 tokens, as the endpoint counts them
    with calling(voyage) as embedder:
        embedder.embed(texts, replace(VOYAGE, model="voyage-4-large"), deadline=within(30))
    assert set(voyage.statuses) == {200}


def test_a_provider_may_allow_larger_requests_to_voyage(voyage: NativeEndpoint) -> None:
    texts = [f"{i} " + "word " * 6_000 for i in range(10)]
    with calling(voyage, max_request_tokens=320_000) as embedder:
        embedder.embed(texts, VOYAGE, deadline=within(30))
    assert [len(exchange.texts) for exchange in voyage.exchanges] == [10]


@pytest.mark.parametrize(
    ("status", "detail", "kind", "code"),
    [
        (400, "The max allowed tokens per submitted batch is 120000.", InputRejected, "max_tokens_per_request"),
        (429, "You have not yet added your payment method in the billing page", RateLimited, "no_payment_method"),
        (429, "slow down", RateLimited, None),
        (400, "Argument 'x' is not supported by our API", InputRejected, None),
        (403, "The IP address is forbidden", CallRejected, None),
        (422, "Malformed", InputRejected, None),
    ],
)
def test_voyages_prose_becomes_a_code(
    voyage: NativeEndpoint, status: int, detail: str, kind: type[ProviderError], code: str | None
) -> None:
    error = failure(voyage, VOYAGE, status, {"detail": detail})
    assert (type(error), error.code) == (kind, code)


# -- Gemini ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [256, 3_072])
def test_geminis_vectors_have_unit_length_at_every_size(gemini: NativeEndpoint, dimensions: int) -> None:
    with calling(gemini) as embedder:
        (vector,) = embedder.embed(["text"], Spec("gemini-embedding-001", dimensions), deadline=within(20)).vectors
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert np.allclose(vector, vector_of("text", dimensions), atol=1e-6)


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1.0, 1e30, 3e38])
def test_geminis_vectors_have_unit_length_however_small_or_large_they_are(size: float) -> None:
    body = json.dumps({"embeddings": [{"values": [size, -size]}]}).encode()
    answer = DIALECTS["gemini"].read(body, texts=["text"], dimensions=2)  # type: ignore[attr-defined]
    assert np.allclose(answer.vectors, [[0.5**0.5, -(0.5**0.5)]])


def test_geminis_tokens_are_estimated_where_it_does_not_count_them(gemini: NativeEndpoint) -> None:
    gemini.api.counts = False  # type: ignore[attr-defined]
    with calling(gemini) as embedder:
        assert embedder.embed(["x" * 400], GEMINI, deadline=within(20)).tokens == 100


def test_gemini_embedding_2_gets_prefixes_and_no_task(gemini: NativeEndpoint) -> None:
    spec = Spec("gemini-embedding-2", 768, prefix="task: search result | query: ")
    with calling(gemini) as embedder:
        embedder.embed(["one", "two"], spec, purpose=Purpose.QUERY, deadline=within(20))
    assert gemini.exchanges[0].body == {
        "requests": [
            {
                "model": "models/gemini-embedding-2",
                "content": {"parts": [{"text": f"task: search result | query: {text}"}]},
                "embedContentConfig": {"autoTruncate": False, "outputDimensionality": 768},
            }
            for text in ("one", "two")
        ]
    }


def test_a_gemini_model_may_be_written_as_google_writes_it(gemini: NativeEndpoint) -> None:
    with calling(gemini) as embedder:
        embedder.embed(["text"], replace(GEMINI, model="models/gemini-embedding-001"), deadline=within(20))
    assert gemini.exchanges[0].path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"


@pytest.mark.parametrize("model", ["../../v1/evil", "x:generateContent?y=", "a/b", "x#", "", "é", "models/../x"])
def test_a_models_name_never_leads_to_another_address(gemini: NativeEndpoint, model: str) -> None:
    with calling(gemini) as embedder, pytest.raises(CallRejected, match="doesn't know the model"):
        embedder.embed(["text"], replace(GEMINI, model=model), deadline=within(20))
    (exchange,) = gemini.exchanges
    assert exchange.path.startswith("/v1beta/models/")
    assert exchange.path.endswith(":batchEmbedContents")
    assert exchange.path.count("/") == 3
    assert not {"?", "#"} & {*exchange.path}


def _detail(kind: str, **values: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **values}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("status", "name", "details", "words"),
    [
        (
            400,
            "INVALID_ARGUMENT",
            [_detail("ErrorInfo", reason="API_KEY_INVALID")],
            "rejected the API key (400 api",
        ),
        (403, "PERMISSION_DENIED", [], "denied access (403 permission_denied)"),
        (
            403,
            "PERMISSION_DENIED",
            [_detail("ErrorInfo", reason="BILLING_DISABLED")],
            "quota is used up (403 permission_denied)",
        ),
        (400, "FAILED_PRECONDITION", [], "denied access (400 failed_precondition)"),
        (400, "INVALID_ARGUMENT", [], "rejected the input (400 invalid_argument)"),
        (404, "NOT_FOUND", [], "doesn't know the model (404 not_found)"),
        (503, "UNAVAILABLE", [], "the provider failed (503 unavailable)"),
    ],
)
def test_geminis_errors_are_told_by_their_reason(
    gemini: NativeEndpoint, status: int, name: str, details: list[Any], words: str, wrapped: bool
) -> None:
    body = Gemini.error(status, name, "the text was Erika", *details).body
    gemini.fail(status, [body] if wrapped else body)
    with calling(gemini) as embedder, pytest.raises(ProviderError) as caught:
        embedder.embed(["text"], GEMINI, deadline=within(20))
    assert words in str(caught.value)
    assert "Erika" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("37s", 37.0),
        ("0.5s", 0.5),
        ("999999s", 86_400.0),
        ("-1s", None),
        ("1e9s", None),
        ("soon", None),
        (5, None),
    ],
)
def test_gemini_says_in_the_body_when_to_call_again(
    gemini: NativeEndpoint, delay: Any, seconds: float | None
) -> None:
    quota = _detail("QuotaFailure", violations=[{"quotaId": "EmbedContentRequestsPerMinutePerProjectPerModel"}])
    body = Gemini.error(429, "RESOURCE_EXHAUSTED", "", quota, _detail("RetryInfo", retryDelay=delay), "odd").body
    error = failure(gemini, GEMINI, 429, body)
    assert isinstance(error, RateLimited)
    assert error.code == "resource_exhausted"
    assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))
    header = failure(gemini, GEMINI, 429, body, headers={"Retry-After": "3"})
    assert header.retry_after == timedelta(seconds=3)


# -- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "most"), [("cohere", 15), ("gemini", 15), ("voyage", 1_000)])
def test_a_budget_counts_what_the_provider_counts(name: str, most: int, request: pytest.FixtureRequest) -> None:
    """Cohere and Gemini limit the texts per minute. A request takes at most a sixth of them."""
    endpoint: NativeEndpoint = request.getfixturevalue(name)
    provider = replace(provider_at(endpoint), requests_per_minute=90)
    budget = open_budget(provider, Settings(_env_file=None))
    assert budget.within(DIALECTS[name].limits(provider)).max_inputs == most
    with calling(endpoint, requests_per_minute=90) as embedder:
        embedder.embed(["text"] * 15, SPECS[name], deadline=within(20))
        if most == 15:
            with pytest.raises(BudgetExhausted):
                embedder.embed(["text"], SPECS[name], deadline=within(1))
        else:
            embedder.embed(["text"], SPECS[name], deadline=within(20))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("cohere", "https://api.cohere.com/compatibility/v1"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/"),
    ],
)
def test_a_worker_names_the_address_of_another_dialect(name: str, address: str) -> None:
    provider = Provider(name, base_url=address, api_key_env="TEST_KEY", dialect=name)
    with (
        closing(open_embedder(provider, Settings(_env_file=None), {"TEST_KEY": KEY})) as embedder,
        pytest.raises(Misconfigured, match="the address of an OpenAI-compatible API") as caught,
    ):
        embedder.prepare(SPECS[name])
    assert 'dialect = "openai"' in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["cohere", "voyage", "gemini"])
def test_an_empty_prefix_changes_no_vector(name: str) -> None:
    spec = replace(SPECS[name], dialect=name)
    assert replace(spec, prefix="").digest == spec.digest != replace(spec, prefix=" ").digest


@pytest.mark.parametrize("name", ["cohere", "voyage", "gemini"])
def test_an_outage_says_nothing_of_what_the_provider_wrote(name: str, request: pytest.FixtureRequest) -> None:
    endpoint: NativeEndpoint = request.getfixturevalue(name)
    secret = "Erika Mustermann " + KEY
    prose = {"message": secret, "detail": secret, "error": {"message": secret, "status": KEY.upper()}}
    endpoint.fail(503, prose)
    with calling(endpoint) as embedder, pytest.raises(Unavailable) as caught:
        embedder.embed(["text"], SPECS[name], deadline=within(20))
    assert str(caught.value) == "the provider failed (503)"


@pytest.mark.parametrize(
    ("name", "model", "dimensions", "problem"),
    [
        ("cohere", "embed-v4.0", 768, "expected 256, 512, 1024, 1536 for embed-v4.0, got 768"),
        ("cohere", "embed-english-v3.0", 1536, "expected 1024 for embed-english-v3.0, got 1536"),
        ("cohere", "embed-v9.0", 768, None),
        ("voyage", "voyage-4-lite", 1536, "expected 256, 512, 1024, 2048 for voyage-4-lite, got 1536"),
        ("voyage", "voyage-law-2", 1024, None),
        ("gemini", "gemini-embedding-001", 10, None),
    ],
)
def test_a_size_that_a_known_model_does_not_offer_is_found_without_a_call(
    name: str, model: str, dimensions: int, problem: str | None
) -> None:
    (failure,) = DIALECTS[name].check_specs([Spec(model, dimensions)])
    assert (None if failure is None else str(failure)) == problem
