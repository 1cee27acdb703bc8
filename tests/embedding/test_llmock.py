"""Our client against independent software: llmock breaks the calls and grades how the client handles them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from llmock.pytest_plugin import LLMock
from llmock.simulation import build_mock_embedding

from pgvector_sync.errors import InputRejected, Misconfigured, RateLimited, TimedOut, Unavailable
from pgvector_sync.model import Spec
from support.servers import Database
from support.steps import Steps
from support.synced import DOCS, open_synced, running_endpoint

DIMENSIONS = 1536
"""The dimensions that llmock always answers with, as lists of numbers, whatever was requested."""
SPEC = Spec("text-embedding-3-small", DIMENSIONS)


@pytest.fixture
def embed(llmock: LLMock, open_caller: Callable[..., Callable]) -> Callable:
    caller = open_caller(llmock.base_url(), timeout=10.0)
    return lambda texts: caller(texts, SPEC)


@pytest.fixture
def embed_impatiently(llmock: LLMock, open_caller: Callable[..., Callable]) -> Callable:
    caller = open_caller(llmock.base_url(), timeout=0.3)
    return lambda texts: caller(texts, SPEC)


def warnings(llmock: LLMock) -> set[str]:
    """Return llmock's warnings, after checking that it found no error."""
    llmock.assert_resilient()
    return {finding.code for finding in llmock.verdict().warnings}


def test_its_vectors_arrive_in_the_order_of_the_texts(llmock: LLMock, embed: Callable) -> None:
    texts = [f"text {i}" for i in range(20)]
    answer = embed(texts)
    assert np.allclose(answer.vectors, [build_mock_embedding(text, DIMENSIONS) for text in texts])
    assert len(llmock.requests) == 1


@pytest.mark.parametrize("status", [408, 500, 502])
def test_a_temporary_failure_is_retried(llmock: LLMock, embed: Callable, status: int) -> None:
    llmock.fail(status)
    assert embed(["text"]).requests == 2
    llmock.assert_resilient(strict=True)


def test_an_outage_causes_no_retry_storm(llmock: LLMock, embed: Callable) -> None:
    llmock.outage(status=500)
    with pytest.raises(Unavailable):
        embed(["text"])
    assert len(llmock.requests) == 3
    assert "gave_up" not in warnings(llmock)


@pytest.mark.parametrize(("status", "expected"), [(429, RateLimited), (503, Unavailable), (529, Unavailable)])
def test_a_provider_that_names_a_time_is_not_called_before(
    llmock: LLMock, embed: Callable, status: int, expected: type[Exception]
) -> None:
    llmock.fail(status, retry_after=2.5)
    with pytest.raises(expected) as caught:
        embed(["text"])
    assert timedelta(seconds=2.5) <= caught.value.retry_after <= timedelta(seconds=3)
    # the call itself gives up: waiting is the pipeline's, see below
    assert warnings(llmock) == {"gave_up"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, InputRejected), (401, Misconfigured), (403, Misconfigured), (404, Misconfigured), (422, InputRejected)],
)
def test_a_permanent_failure_is_not_retried(
    llmock: LLMock, embed: Callable, status: int, expected: type[Exception]
) -> None:
    llmock.fail(status, times=None)
    with pytest.raises(expected):
        embed(["text"])
    assert len(llmock.requests) == 1
    llmock.assert_resilient(strict=True)


def test_a_text_beyond_the_context_is_refused(llmock: LLMock, embed: Callable) -> None:
    llmock.limits(context_window=10)
    with pytest.raises(InputRejected) as caught:
        embed(["word " * 100])
    assert caught.value.code == "context_length_exceeded"
    llmock.assert_resilient(strict=True)


@pytest.mark.slow
def test_an_answer_that_takes_too_long_is_abandoned(llmock: LLMock, embed_impatiently: Callable) -> None:
    llmock.delay(3.0)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        embed_impatiently(["text"])
    assert time.monotonic() - started < 3.0
    llmock.assert_resilient(strict=True)


def test_a_pipeline_survives_its_chaos_with_every_vector_right(
    llmock: LLMock, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_endpoint() as shared, open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(DOCS)
        synced.declare(dimensions=DIMENSIONS)
        synced.apply()
        synced.run(f"UPDATE pgvector_sync.provider SET base_url = '{llmock.base_url()}'")
        docs = Steps(synced, synced.runtime)
        docs.insert(_1="one")
        llmock.rate_limit(retry_after=0.2)
        llmock.fail(500, times=2)
        synced.settle()
        # the probe after the cool-down asks a harmless text first, and then sends the same row again
        assert [record.status for record in llmock.requests] == [429, 500, 500, 200, 200]
        assert "gave_up" not in warnings(llmock)
        docs.insert(**{f"_{i}": f"text {i}" for i in range(2, 60)})
        llmock.fail(400, code="context_length_exceeded")  # whose fault it was, nobody can say afterwards
        synced.settle()
        llmock.assert_resilient()
        texts = synced.texts()
        vectors = synced.vectors()
        assert set(vectors) == set(texts)
        for key, text in texts.items():
            assert np.allclose(vectors[key], build_mock_embedding(text, DIMENSIONS), atol=1e-6)
