"""List prices of embedding models, for estimates only. `[prices]` in the file takes precedence.

A price applies only if the vendor itself is called, or a reseller that charges the same. What another host charges
for a model of the same name isn't known: it may be a gateway or a self-hosted server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.network.hosts import address_of
from pgvector_sync.model import Pipeline
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Vendor:
    """A company that serves its own models."""

    name: str
    hosts: tuple[str, ...]
    """The hosts of its API. One that begins with a dot stands for all hosts below it."""
    page: str
    """Where the prices are published."""
    as_of: str
    """The age of the copy that was read, of the page or of one that quotes it: its month, or its year."""
    usd: Mapping[str, str]
    """US dollars per million tokens by model."""
    batch_share: str | None = None
    """What the vendor's batch API costs as a share of the price. pgvector-sync doesn't use it. None: unknown."""


VENDORS = (
    Vendor(
        "OpenAI",
        ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        "https://developers.openai.com/api/docs/pricing",
        "2026-07",
        {"text-embedding-3-small": "0.02", "text-embedding-3-large": "0.13", "text-embedding-ada-002": "0.10"},
        batch_share="0.5",
    ),
    Vendor(
        "Voyage AI",
        ("api.voyageai.com", "ai.mongodb.com"),
        "https://docs.voyageai.com/docs/pricing",
        "2026",
        {
            "voyage-4-large": "0.12",
            "voyage-4": "0.06",
            "voyage-4-lite": "0.02",
            "voyage-code-4": "0.12",
            "voyage-code-3": "0.18",
            "voyage-3-large": "0.18",
            "voyage-3.5": "0.06",
            "voyage-3.5-lite": "0.02",
            "voyage-finance-2": "0.12",
            "voyage-law-2": "0.12",
            "voyage-multilingual-2": "0.12",
        },
        batch_share="0.67",
    ),
    Vendor(
        "Google Gemini",
        ("generativelanguage.googleapis.com",),
        "https://ai.google.dev/gemini-api/docs/pricing",
        "2026-10",
        {"gemini-embedding-001": "0.15", "gemini-embedding-2": "0.20"},
        batch_share="0.5",
    ),
    Vendor(
        "Mistral",
        ("api.mistral.ai",),
        "https://mistral.ai/pricing",
        "2026",
        {
            "mistral-embed": "0.10",
            "mistral-embed-2312": "0.10",
            "codestral-embed": "0.15",
            "codestral-embed-2505": "0.15",
        },
        batch_share="0.5",
    ),
    Vendor(
        "Cohere",
        ("api.cohere.com", "api.cohere.ai"),
        "https://cohere.com/pricing",
        "2026",
        {"embed-v5.0-fast": "0.08", "embed-v4.0": "0.12"},
    ),
)
"""Jina is missing: it sells prepaid tokens, whose price depends on the package."""
READ = "2026-11-27"
"""When the prices were read."""
RESELLERS = {"openrouter.ai"}
"""Hosts that charge the vendor's price and put its name before the model's: `openai/text-embedding-3-small`."""


def table() -> str:
    """Return the prices as a Markdown table, for docs/providers.md."""
    lines = ["| vendor | model | USD per million tokens | with the batch API | as of |", "|---|---|---|---|---|"]
    for vendor in VENDORS:
        for model, usd in vendor.usd.items():
            batch = (
                "not stated"
                if vendor.batch_share is None
                else _dollars(Decimal(usd) * Decimal(vendor.batch_share))
            )
            name = f"[{vendor.name}]({vendor.page})"
            lines.append(f"| {name} | `{model}` | {_dollars(Decimal(usd))} | {batch} | {vendor.as_of} |")
    return "\n".join(lines)


def _dollars(usd: Decimal) -> str:
    return f"{usd.quantize(Decimal('0.0001')).normalize():f}"


def price_for(pipeline: Pipeline, settings: Settings) -> Decimal | None:
    """Return US dollars per million tokens: from the file, else the list price if it applies, else None."""
    if pipeline.options.price is not None:
        return pipeline.options.price
    if not dialect_of(pipeline.provider).billed:
        return Decimal(0)
    return price_of(pipeline.spec.model, address_of(pipeline.provider, settings))


def price_of(model: str, address: str) -> Decimal | None:
    """Return US dollars per million tokens of a model at the URL of a provider, None if unknown."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:  # any text may have been written into the table
        return None
    if host in RESELLERS:
        sold = model.partition("/")[2]
        prices = (vendor.usd.get(sold) for vendor in VENDORS)
    else:
        own = model.removeprefix("models/")  # as Gemini names them
        prices = (vendor.usd.get(own) for vendor in VENDORS if _serves(vendor, host))
    usd = next(filter(None, prices), None)
    return None if usd is None else Decimal(usd)


def _serves(vendor: Vendor, host: str) -> bool:
    return any(host == name or (name.startswith(".") and host.endswith(name)) for name in vendor.hosts)
