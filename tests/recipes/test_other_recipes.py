"""`apply --dry-run` accepts each file of the recipes without a warning."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.synced import Synced

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
BLOCK = re.compile(r"```toml\n(.*?)```", re.DOTALL)
VARIABLES = re.compile(r"`(PGVECTOR_SYNC_ALLOWED_HOSTS)=([^`]+)`")
FILES = [
    (page, number, block)
    for page in ("model-servers.md", "pgai.md", "django.md")
    for number, block in enumerate(BLOCK.findall((RECIPES / page).read_text("utf-8")))
]


@pytest.mark.parametrize(("page", "number", "block"), FILES, ids=[f"{page} {n}" for page, n, _ in FILES])
def test_apply_accepts_the_file(
    synced: Synced,
    typed: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    page: str,
    number: int,
    block: str,
) -> None:
    synced.run(
        "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, published boolean)",
        "CREATE TABLE blog (id bigint PRIMARY KEY, title text, contents text)",
    )
    for key in ("OPENAI_API_KEY", "AZURE_KEY", "GEMINI_API_KEY", "VOYAGE_API_KEY"):
        monkeypatch.setenv(key, "k")
    before = (RECIPES / page).read_text("utf-8").partition(block)[0].rpartition("```\n")[2]
    for name, value in VARIABLES.findall(before):
        monkeypatch.setenv(name, value)
    file = tmp_path / "recipe.toml"
    file.write_text(block, "utf-8")
    code, out, err = typed("apply", "--dry-run", "-f", str(file))
    assert (code, err) == (0, "")
    assert "expects documents and queries in different forms" not in out
