"""Successful calls: what is sent, and what is returned."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.errors import Misconfigured, Unavailable
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.endpoint import tokens_of, vector_of
from support.waiting import within

SPEC = Spec("text-embedding-3-small", 64)  # what `embed` asks for by default
TEXTS = ["one", "two", "three"]


def expected(texts, dimensions=SPEC.dimensions):
    return np.array([vector_of(text, dimensions) for text in texts])


def test_every_text_gets_its_own_vector(embed, endpoint):
    answer = embed(TEXTS)
    assert np.array_equal(answer.vectors, expected(TEXTS))
    assert answer.vectors.dtype == np.float32
    assert (answer.requests, answer.tokens) == (1, sum(map(tokens_of, TEXTS)))
    assert endpoint.calls.bodies == [{"model": SPEC.model, "dimensions": 64, "encoding_format": "base64"}]


def test_no_texts_need_no_request(embed, endpoint):
    answer = embed([])
    assert answer.vectors.shape == (0, SPEC.dimensions)
    assert endpoint.calls.requests == 0


def test_a_shuffled_answer_is_put_in_order(embed, endpoint):
    endpoint.fail("shuffled")
    assert np.array_equal(embed(TEXTS).vectors, expected(TEXTS))


def test_lists_are_accepted_although_base64_was_requested(embed, endpoint):
    endpoint.fail("lists")
    assert np.allclose(embed(TEXTS).vectors, expected(TEXTS))


def test_tokens_are_estimated_where_the_endpoint_does_not_count(embed, endpoint):
    endpoint.fail("no_usage")
    assert embed(["x" * 400]).tokens == 100


def test_a_provider_can_be_asked_for_floats_and_without_dimensions(open_caller, endpoint):
    embed = open_caller(endpoint.base_url, encoding="float", dimensions_parameter="none")
    assert np.allclose(embed(TEXTS, Spec(SPEC.model, 1536)).vectors, expected(TEXTS, 1536))
    assert endpoint.calls.bodies == [{"model": SPEC.model, "encoding_format": "float"}]


@pytest.mark.parametrize("encoding", ["base64", "float", "none"])
def test_the_encoding_is_what_the_setting_says_and_none_sends_no_parameter(open_caller, endpoint, encoding):
    """The SDK's own method for embeddings adds base64 where no encoding is given."""
    embed = open_caller(endpoint.base_url, encoding=encoding)
    assert np.allclose(embed(TEXTS).vectors, expected(TEXTS))
    sent = {} if encoding == "none" else {"encoding_format": encoding}
    assert endpoint.calls.bodies == [{"model": SPEC.model, "dimensions": 64, **sent}]


def test_more_texts_than_a_request_takes_become_several(embed, endpoint):
    texts = [f"text {i}" for i in range(5_000)]
    answer = embed(texts)
    assert np.array_equal(answer.vectors, expected(texts))
    assert answer.requests == endpoint.calls.requests == 3


def test_long_texts_go_alone_and_side_by_side(embed, endpoint):
    texts = ["short", *(f"{i} " + "a " * 8_300 for i in range(8)), "short too"]
    endpoint.latency = 0.3
    started = time.monotonic()
    answer = embed(texts)
    assert time.monotonic() - started < 8 * 0.3
    assert np.array_equal(answer.vectors, expected(texts))
    assert answer.requests == 9


def test_one_embedder_serves_many_threads(embed):
    batches = [[f"{thread} {i}" for i in range(20)] for thread in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(embed, batches))
    for texts, answer in zip(batches, answers, strict=True):
        assert np.array_equal(answer.vectors, expected(texts))


def test_a_forked_child_opens_its_own_connection(embed, endpoint):
    embed(TEXTS)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs would outlive the tests
        code = 1
        try:
            code = 0 if np.array_equal(embed(["child"]).vectors, expected(["child"])) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(embed(["parent"]).vectors, expected(["parent"]))


def test_a_closed_embedder_opens_again_when_it_is_needed(embed):
    embed(TEXTS)
    embed.embedder.close()
    assert np.array_equal(embed(TEXTS).vectors, expected(TEXTS))


def test_an_endpoint_without_authentication_needs_no_key(open_caller, endpoint):
    endpoint.api_key = None
    embed = open_caller(endpoint.base_url, api_key_env=None)
    assert len(embed(TEXTS).vectors) == 3


def test_a_key_from_a_file_may_end_in_a_newline(open_caller, endpoint):
    assert len(open_caller(endpoint.base_url, environ={"TEST_KEY": "test-key\n"})(TEXTS).vectors) == 3


@pytest.mark.parametrize(
    "environ", [{}, {"TEST_KEY": ""}, {"TEST_KEY": "geheim-ü"}, {"TEST_KEY": "geheim\nlines"}]
)
def test_a_missing_or_broken_key_names_the_variable_and_not_the_key(open_caller, endpoint, environ):
    embed = open_caller(endpoint.base_url, environ=environ)
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS)
    assert "TEST_KEY" in str(caught.value)
    assert "geheim" not in f"{caught.value} {caught.value.hint}"
    assert endpoint.calls.requests == 0


def test_the_key_is_looked_up_again_until_it_is_there(open_caller, endpoint):
    environ: dict[str, str] = {}
    embed = open_caller(endpoint.base_url, environ=environ)
    with pytest.raises(Misconfigured):
        embed(TEXTS)
    environ["TEST_KEY"] = "test-key"
    assert len(embed(TEXTS).vectors) == 3


def test_a_host_that_is_not_allowed_is_never_called(open_caller):
    embed = open_caller("https://evil.invalid/v1")
    with pytest.raises(Misconfigured) as caught:
        embed(TEXTS)
    assert caught.value.code == "host_not_allowed"


def test_a_proxy_is_not_asked_for_loopback(embed, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert len(embed(TEXTS).vectors) == 3


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "base_url"])
def test_a_wrong_address_is_blamed_on_what_decided_it(endpoint, variable):
    """The pipeline's state and `doctor` show the message, which must say which of the two to correct."""
    given = endpoint.base_url + "/nowhere"
    elsewhere = "https://api.openai.com/v1" if variable == "OPENAI_BASE_URL" else given
    settings = Settings(
        _env_file=None,
        openai_base_url=given if variable == "OPENAI_BASE_URL" else None,
        allowed_hosts="http://127.0.0.1=OPENAI_API_KEY",
    )
    provider = Provider("openai", base_url=elsewhere, api_key_env="OPENAI_API_KEY")
    embedder = open_embedder(provider, settings, {"OPENAI_API_KEY": "test-key"})
    try:
        with pytest.raises(Misconfigured) as caught:
            embedder.embed(TEXTS, Spec("text-embedding-3-small", 8), deadline=within(10))
    finally:
        embedder.close()
    assert variable in (caught.value.hint or "")
    closed = Settings(_env_file=None, openai_base_url="http://127.0.0.1:1/v1")
    embedder = open_embedder(provider, closed, {"OPENAI_API_KEY": "test-key"})
    try:
        with pytest.raises(Unavailable, match="its address is set by OPENAI_BASE_URL"):
            embedder.embed(TEXTS, Spec("text-embedding-3-small", 8), deadline=within(2))
    finally:
        embedder.close()
