"""The table of known models in docs/documents-and-queries.md is made from the code.

PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 rewrites it.
"""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path

from pgvector_sync.embedding.families.family import Family, Recommended
from pgvector_sync.embedding.families.table import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "documents-and-queries.md"
REWRITE = "PGVECTOR_SYNC_REWRITE_SNAPSHOT" in os.environ  # read before the fixtures clear the environment
HEADING = "## Known models\n"


def recommended(wanted: Recommended) -> str:
    shown = [] if wanted.prefix is None else [json.dumps(wanted.prefix, ensure_ascii=False)]
    shown += [f"{name} = {json.dumps(value)}" for name, value in wanted.body.items()]
    # a bar would end the cell, even within backticks
    return f"<code>{escape(shown[0], quote=False).replace('|', '&#124;')}</code>" if shown else "as it is"


def line(family: Family) -> str:
    names = ", ".join(f"`{part}`" for part in family.models)
    if family.hosts:
        names += f" at `{family.hosts[0]}`"
    tokens = f"{family.window:,}" if family.window else ""
    sides = f"{recommended(family.document)} | {recommended(family.query)}"
    return f"| [{family.name}]({family.source}) | {names} | {sides} | {tokens} |"


def table() -> str:
    head = "| family | names | documents | queries | tokens |\n|---|---|---|---|---|\n"
    return head + "\n".join(map(line, FAMILIES)) + "\n"


def test_the_table_of_known_models_is_that_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    before, _, section = page.partition(HEADING)
    words, _, _ = section.partition("| family")
    expected = before + HEADING + words + table()
    if REWRITE:
        PAGE.write_text(expected, "utf-8")
    assert words.strip()
    assert PAGE.read_text("utf-8") == expected
