"""Cutting a batch into requests that stay within the provider's limits.

A count that is only a bound never refuses a text; it only decides what travels together, and the provider judges.
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


def fit_one_request(tokens: Sequence[int]) -> bool:
    """Whether texts of at most so many tokens need no cutting at all."""
    return len(tokens) <= MAX_INPUTS and sum(tokens) <= MAX_TOKENS and max(tokens, default=0) <= MAX_INPUT_TOKENS


def pack(bounds: Sequence[int], *, max_tokens: int = MAX_TOKENS) -> list[list[int]]:
    """The positions of the texts that go into each request; every position once, rising in each request.

    `bounds` are the texts' tokens, at most. A text that may be longer than the provider takes goes alone, so that
    its refusal is its own.
    """
    requests: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for position, bound in enumerate(bounds):
        if bound > MAX_INPUT_TOKENS:
            requests.append([position])
            continue
        if current and (len(current) == MAX_INPUTS or tokens + bound > max_tokens):
            requests.append(current)
            current, tokens = [], 0
        current.append(position)
        tokens += bound
    if current:
        requests.append(current)
    return requests
