"""Divides a batch into requests that stay within the provider's limits.

Token counts may be estimates. They only decide which texts share a request; no text is rejected because of them.
Where an estimate is too low, the provider rejects the request, its parts are sent, and the size is learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgvector_sync.embedding.dialects.dialect import Limits


def are_within(tokens: Sequence[int], limits: Limits) -> bool:
    """Whether texts of at most these tokens never have to be divided or separated for their tokens."""
    return _within(sum(tokens), limits.max_request_tokens) and _within(
        max(tokens, default=0), limits.max_input_tokens
    )


def pack(
    counts: Sequence[int], octets: Sequence[int], limits: Limits, *, first: Limits | None = None
) -> list[list[int]]:
    """Return the positions of the texts for each request, ascending within a request, each position once.

    `counts` are the texts' tokens, as far as known, and `octets` their bytes. A text that is probably longer than
    the provider accepts is sent alone, so that its rejection affects no other text. `first` are the limits of the
    first request with several texts, if they differ.
    """
    requests: list[list[int]] = []
    current: list[int] = []
    tokens = size = 0
    now = first or limits
    for position, (count, octet_count) in enumerate(zip(counts, octets, strict=True)):
        if not _within(count, limits.max_input_tokens):
            requests.append([position])
            continue
        if current and (
            len(current) == now.max_inputs
            or not _within(tokens + count, now.max_request_tokens)
            or not _within(size + octet_count, now.max_request_bytes)
        ):
            requests.append(current)
            current, tokens, size = [], 0, 0
            now = limits
        current.append(position)
        tokens += count
        size += octet_count
    if current:
        requests.append(current)
    return requests


def _within(tokens: int, limit: int | None) -> bool:
    return limit is None or tokens <= limit
