"""Files in TOML, and the tables of docs/configuration.md that describe them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def pipeline(**values: str) -> str:
    """One pipeline in TOML; every value is TOML source, an empty one leaves the key out."""
    keys = {
        "source": '"public.articles"',
        "text": '["title"]',
        "provider": '"openai"',
        "model": '"m"',
        "dimensions": "3",
    } | values
    return "[pipelines.articles]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items() if v)


def rows(heading: str) -> dict[str, str]:
    """The table below a heading of the docs: its first column without backticks, and its second."""
    section = DOCS.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE)
    return dict(cells)
