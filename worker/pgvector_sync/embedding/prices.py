"""Prices of models, for estimates only. `[prices]` in the file takes precedence over this table."""

from __future__ import annotations

from decimal import Decimal

USD_PER_MILLION_TOKENS = {
    "text-embedding-3-small": Decimal("0.02"),
    "text-embedding-3-large": Decimal("0.13"),
    "text-embedding-ada-002": Decimal("0.10"),
}
"""List prices of OpenAI (platform.openai.com/docs/pricing), without the discount of the batch API."""


def price_of(model: str) -> Decimal | None:
    """Return US dollars per million tokens, None if unknown."""
    return USD_PER_MILLION_TOKENS.get(model)
