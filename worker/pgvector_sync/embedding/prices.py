"""What models cost, for estimates. A bill is the provider's; `[prices]` in the file wins over this table."""

from __future__ import annotations

from decimal import Decimal

USD_PER_MILLION_TOKENS = {
    "text-embedding-3-small": Decimal("0.02"),
    "text-embedding-3-large": Decimal("0.13"),
    "text-embedding-ada-002": Decimal("0.10"),
}
"""List prices of OpenAI (platform.openai.com/docs/pricing), without a discount for batches."""


def price_of(model: str) -> Decimal | None:
    """US dollars a million tokens; None where it isn't known."""
    return USD_PER_MILLION_TOKENS.get(model)
