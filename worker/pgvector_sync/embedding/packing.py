"""Cutting a batch into requests that stay within the provider's limits.

A count that is only a bound never refuses a text; it only decides what travels together, and the provider judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgvector_sync.embedding.dialects.dialect import Limits


def fit_one_request(tokens: Sequence[int], limits: Limits) -> bool:
    """Whether texts of at most so many tokens need no cutting at all."""
    return (
        len(tokens) <= limits.max_inputs
        and _within(sum(tokens), limits.max_request_tokens)
        and _within(max(tokens, default=0), limits.max_input_tokens)
    )


def pack(bounds: Sequence[int], limits: Limits) -> list[list[int]]:
    """The positions of the texts that go into each request; every position once, rising in each request.

    `bounds` are the texts' tokens, at most. A text that may be longer than the provider takes goes alone, so that
    its refusal is its own.
    """
    requests: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for position, bound in enumerate(bounds):
        if not _within(bound, limits.max_input_tokens):
            requests.append([position])
            continue
        if current and (
            len(current) == limits.max_inputs or not _within(tokens + bound, limits.max_request_tokens)
        ):
            requests.append(current)
            current, tokens = [], 0
        current.append(position)
        tokens += bound
    if current:
        requests.append(current)
    return requests


def _within(tokens: int, limit: int | None) -> bool:
    return limit is None or tokens <= limit
