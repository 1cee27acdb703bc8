"""TOML files, and the tables of docs/configuration.md that describe them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def pipeline(**values: str) -> str:
    """One pipeline in TOML. Every value is TOML source; an empty value omits the key."""
    keys = {
        "source": '"public.articles"',
        "text": '["title"]',
        "provider": '"openai"',
        "model": '"m"',
        "dimensions": "3",
    } | values
    return "[pipelines.articles]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items() if v)


def rows(heading: str) -> dict[str, str]:
    """The table below a heading of the docs, from the first column (without backticks) to the second."""
    section = DOCS.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE)
    return dict(cells)
