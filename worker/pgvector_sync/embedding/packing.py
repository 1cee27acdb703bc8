"""Cutting a batch into requests that stay within the provider's limits.

A text's tokens are bounded by its UTF-8 bytes, since no tokenizer makes two tokens of one byte. The bound
never refuses a text; it only decides what travels together, and the provider judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_INPUTS = 2_048
MAX_TOKENS = 300_000
"""Of one request."""
MAX_INPUT_TOKENS = 8_191
"""Of one text."""


def token_bound(text: str) -> int:
    """No tokenizer makes more tokens than this of the text."""
    return len(text.encode())


def pack(texts: Sequence[str]) -> list[list[int]]:
    """The positions of the texts that go into each request; every position once, rising in each request.

    A text that may be longer than the provider takes goes alone, so that its refusal is its own.
    """
    requests: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for position, text in enumerate(texts):
        bound = token_bound(text)
        if bound > MAX_INPUT_TOKENS:
            requests.append([position])
            continue
        if current and (len(current) == MAX_INPUTS or tokens + bound > MAX_TOKENS):
            requests.append(current)
            current, tokens = [], 0
        current.append(position)
        tokens += bound
    if current:
        requests.append(current)
    return requests
