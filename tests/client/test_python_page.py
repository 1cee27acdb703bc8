"""Runs each example of docs/python.md and docs/search.md as printed, with a worker's or an application's privileges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.engine.loop import Loop
from pgvector_sync.runtime.bootstrap import Embedders
from support.blocks import run_python
from support.client import sync_as
from support.endpoint import Endpoint
from support.looping import running
from support.roles import APPLICATION, WORKER
from support.servers import Database
from support.synced import Synced, open_synced

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str, language: str = "python") -> list[str]:
    """The code of a page, in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """The pipeline of the examples. A background thread embeds its rows and carries out its runs."""
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(
            "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, tenant int, published boolean, "
            "published_at timestamptz)",
            "INSERT INTO articles SELECT n, 'Bread ' || n, 'how to bake bread number ' || n, 7, true, now() "
            "FROM generate_series(1, 20) n",
        )
        synced.pipeline("articles", source="articles", where="published")
        with running(Loop(synced.runtime)):
            yield synced


def printed(synced: Synced, example: str, folder: Path, role: str = WORKER) -> str:
    return run_python(example, folder, DATABASE_URL=synced.database.url_as(role))


@pytest.mark.slow
def test_the_examples_work_as_printed(synced: Synced, tmp_path: Path) -> None:
    said = [
        printed(synced, example, tmp_path, APPLICATION if "sync.enqueue(" in example else WORKER)
        for example in examples("python.md")
    ]
    together = "".join(said)
    assert "articles active" in together
    assert "how to bake bread number" in together
    assert "finished" in together
    assert "0 of 20 rows have drifted" in together


@pytest.mark.slow
def test_the_recipes_of_search_work_as_printed(synced: Synced, tmp_path: Path) -> None:
    with synced.database.connect() as connection:
        for statements in examples("search.md", "sql"):
            own = statements.replace("ROLE shop SET", f"ROLE shop IN DATABASE {synced.database.name} SET")
            connection.execute(own.replace("'[…]'", "(SELECT embedding FROM articles_embedding LIMIT 1)"))
        connection.execute(
            "INSERT INTO articles VALUES (21, 'Draft', 'how to bake bread', 7, false), (22, 'Other', 'how to bake bread', 8, true)"
        )
        synced.settle()
        connection.execute(
            "INSERT INTO articles_embedding SELECT 21, 0, NULL, embedding, fingerprint, model, now() FROM articles_embedding WHERE id = 22"
        )
        connection.execute("INSERT INTO articles VALUES (23, 'Old', 'how to bake bread', 7, true)")
        synced.settle()
        connection.execute("UPDATE articles_embedding SET model = 'the old one' WHERE id = 23")
    together = "".join(printed(synced, example, tmp_path, APPLICATION) for example in examples("search.md"))
    assert "Bread" in together
    assert "the last page has" in together
    assert "hits in the transaction of" in together
    found = re.findall(r"found in SQL: (\d+) (\w+)", together)
    assert len(found) == 3
    assert {title for _, title in found} == {"Bread"}
    with sync_as(synced.database, WORKER) as sync:
        hits = sync.search("articles", "how to bake bread", 3, where="tenant = 7")
        query = sync.embed_query("articles", "how to bake bread")
    assert [int(key) for key, _ in found] == [hit.key[0] for hit in hits]
    plan = synced.database.execute("EXPLAIN SELECT * FROM search_articles(%s, %s, 7)", str(query), query.model)
    assert any("CTE near" in line for (line,) in plan)  # inlined
