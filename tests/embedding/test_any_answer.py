"""Whatever an endpoint answers, in any dialect, becomes checked vectors or one of our errors, and nothing unexpected."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.dialects.http import HttpDialect
from pgvector_sync.embedding.refusal import Refusal, retry_after
from pgvector_sync.errors import BrokenContract, ProviderError
from pgvector_sync.model import Provider

SECRET = "sk-proj-Zq81hT0vBnM4xW7c"
PROVIDER = Provider("test", base_url="https://models.example/v1", api_key_env="TEST_KEY")
ANSWER_NAMES = ("data", "index", "embedding", "usage", "total_tokens", "embeddings", "float", "values", "meta")
ERROR_NAMES = (
    *(
        "error",
        "errors",
        "detail",
        "details",
        "code",
        "status",
        "reason",
        "message",
        "type",
        "retryDelay",
        "param",
    ),
    *("base_resp", "status_code", "loc", "billed_units", "input_tokens", "usageMetadata", "promptTokenCount"),
)
NUMBERS = st.sampled_from([0, 1, -1, 1.0, 1e-45, 1e-30, 1e38, 3.4e38, 1e200, 10**400, float("nan"), None, True])
WORDS = st.sampled_from(["", "AACAPwAAgD8=", "AAA", "\ud800", "1s", "503", "rate_limit", f"key {SECRET}", SECRET])
LEAVES = NUMBERS | WORDS | st.integers() | st.text(max_size=5)
VECTORS = st.lists(NUMBERS, min_size=2, max_size=2) | st.just([1.0, 2.0]) | WORDS
TREES = st.recursive(
    LEAVES | VECTORS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ANSWER_NAMES + ERROR_NAMES), inner)
    ),
    max_leaves=12,
)


def answers(vectors: list[Any]) -> list[Any]:
    """Return these vectors in the form of each dialect."""
    return [
        {"data": [{"embedding": vector} for vector in vectors]},
        {"embeddings": {"float": vectors}},
        {"embeddings": [{"values": vector} for vector in vectors]},
    ]


EXTREME = st.lists(st.sampled_from([0, 1, 1e-45, 1e-30, 1e30, 3e38]), min_size=2, max_size=2)
BODIES = st.one_of(
    TREES,
    *(
        st.lists(vectors, min_size=2, max_size=2).flatmap(lambda pair: st.sampled_from(answers(pair)))
        for vectors in (EXTREME, VECTORS | TREES)
    ),
)


def remote() -> list[HttpDialect]:
    return [dialect for dialect in DIALECTS.values() if isinstance(dialect, HttpDialect)]


@pytest.mark.parametrize("dialect", remote(), ids=lambda dialect: dialect.name)
@settings(max_examples=150)
@given(body=BODIES, status=st.sampled_from([200, 302, 400, 402, 403, 404, 422, 429, 498, 500]))
def test_an_answer_is_read_or_refused(dialect: HttpDialect, body: Any, status: int) -> None:
    if status == 200:
        with suppress(BrokenContract):
            read = dialect.read(json.dumps(body).encode(), texts=["a", "b"], dimensions=2)
            assert read.vectors.dtype == np.float32
            assert np.isfinite(read.vectors).all()
            assert read.vectors.any(axis=1).all()
        if not dialect.reports_failure(body):
            return
    waits = retry_after({}, now=datetime.now(UTC), body=body)
    error = dialect.classify(Refusal(status, body, waits, PROVIDER, "base_url of test", (SECRET,)))
    assert isinstance(error, ProviderError)
    assert SECRET.lower() not in f"{error} {error.hint} {error.code}".lower()


@given(
    value=st.text(st.characters(min_codepoint=32, max_codepoint=126)) | WORDS, name=st.sampled_from(["", "-ms"])
)
def test_a_wait_is_read_or_ignored(value: str, name: str) -> None:
    wait = retry_after({f"retry-after{name}": value}, now=datetime.now(UTC))
    assert wait is None or wait.total_seconds() >= 0
