"""The tests that docs/security.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs/security.md").read_text("utf-8"))))


@pytest.mark.parametrize("name", NAMED)
def test_each_test_that_the_docs_name_exists(name: str):
    texts = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert any(f"def {name}(" in text for text in texts)
