"""List prices: whose they are, where they apply, and that the docs show the same."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from pgvector_sync.embedding.prices import READ, VENDORS, price_of, table

PAGE = Path(__file__).parents[2] / "docs/providers.md"
REWRITE = os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT") == "1"
TABLE = re.compile(r"(?<=<!-- prices -->\n\n)(.*?)(?=\n\n<!-- end of prices -->)", re.DOTALL)


@pytest.mark.parametrize(
    ("model", "address", "usd"),
    [
        ("text-embedding-3-small", "https://api.openai.com/v1", "0.02"),
        ("text-embedding-3-large", "https://acme.openai.azure.com/openai/v1", "0.13"),
        ("voyage-3.5", "https://api.voyageai.com/v1", "0.06"),
        ("gemini-embedding-001", "https://generativelanguage.googleapis.com/v1beta/openai", "0.15"),
        ("models/gemini-embedding-001", "https://generativelanguage.googleapis.com/v1beta/openai", "0.15"),
        ("mistral-embed", "https://API.mistral.ai/v1", "0.10"),
        ("embed-v4.0", "https://api.cohere.com/v2", "0.12"),
        ("openai/text-embedding-3-small", "https://openrouter.ai/api/v1", "0.02"),
        ("google/gemini-embedding-001", "https://openrouter.ai/api/v1", "0.15"),
    ],
)
def test_a_model_has_its_list_price_at_its_vendor(model: str, address: str, usd: str) -> None:
    assert price_of(model, address) == Decimal(usd)


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ("text-embedding-3-small", "http://vllm:8000/v1"),
        ("text-embedding-3-small", "http://127.0.0.1:4000/v1"),
        ("text-embedding-3-small", "https://openrouter.ai/api/v1"),
        ("qwen/qwen3-embedding-8b", "https://openrouter.ai/api/v1"),
        ("openai/text-embedding-3-small", "https://gateway.example/v1"),
        ("text-embedding-3-small", "https://api.openai.com.evil.example/v1"),
        ("text-embedding-3-small", "https://openai.azure.com/v1"),
        ("text-embedding-3-small", "https://api.mistral.ai/v1"),
        ("text-embedding-9", "https://api.openai.com/v1"),
        ("text-embedding-3-small", ""),
        ("text-embedding-3-small", "https://["),
    ],
)
def test_elsewhere_and_for_other_models_the_price_is_unknown(model: str, address: str) -> None:
    assert price_of(model, address) is None


def test_the_docs_have_the_prices() -> None:
    """With PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 the table is written."""
    text = PAGE.read_text("utf-8")
    if REWRITE:
        text = TABLE.sub(lambda _: table(), text)
        PAGE.write_text(text, "utf-8")
    assert TABLE.findall(text) == [table()]
    assert f"read on {READ}" in text


def test_prices_are_read_from_pages_of_the_vendors_and_say_when() -> None:
    for vendor in VENDORS:
        assert vendor.page.startswith("https://")
        assert re.fullmatch(r"\d{4}(-\d\d)?", vendor.as_of)
        assert vendor.as_of <= READ
        assert all(0 < Decimal(usd) < 1 for usd in vendor.usd.values())
