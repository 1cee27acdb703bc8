"""Runs the code of the recipes for Django, SQLAlchemy, Alembic, FastAPI and hybrid search, taken from the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.blocks import run_python
from support.roles import APPLICATION
from support.synced import Synced

pytestmark = pytest.mark.slow  # each starts a process that imports a framework

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
FILE = re.compile(r"```python\n# ([\w/]+\.py)\n(.*?)```", re.DOTALL)
SEARCH_ROWS = """
from shop.search import search
rows = search("how to bake bread", tenant=7, k=3)
assert len(rows) == 3, rows
"""
DJANGO = """
import os
import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
info = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": info["dbname"], "USER": info["user"],
                           "PASSWORD": info.get("password", ""), "HOST": info["host"], "PORT": info["port"]}},
)
django.setup()
from django.core.management import call_command
from shop.search import search
found = list(search("how to bake bread", tenant=7, k=30))
print("found", sorted(article.id for article in found))
assert [a.distance for a in found] == sorted(a.distance for a in found)
call_command("makemigrations", "shop", verbosity=0)
call_command("sqlmigrate", "shop", "0001")
"""
ALEMBIC = """
import os
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from shop.ours import include_object
from shop.search import engine
from shop.tables import metadata
with engine.connect() as connection:
    for name, options in (("without", {}), ("with", {"include_object": include_object})):
        context = MigrationContext.configure(connection, opts={"include_schemas": True, **options})
        changes = compare_metadata(context, metadata)
        print(name, sorted(c[1].fullname for c in changes if c[0] == "remove_table"))
"""
FASTAPI = """
from fastapi.testclient import TestClient
from shop.app import app
with TestClient(app) as client:
    ids, after = [], None
    while True:
        answer = client.get("/search", params={"q": "how to bake bread", "tenant": 7, "k": 8} | ({"after": after} if after else {}))
        assert answer.status_code == 200, answer.text
        ids += [hit["id"] for hit in answer.json()["hits"]]
        after = answer.json()["next"]
        if after is None:
            break
    print("found", sorted(ids))
    print("forged", client.get("/search", params={"q": "x", "after": "forged"}).status_code)
"""


@pytest.fixture
def articles(synced: Synced) -> Synced:
    """The pipeline of the recipes: rows 1 to 20 are published and of tenant 7, 21 isn't published, 22 is of tenant 8."""
    synced.run(
        "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, tenant int, published boolean)",
        "INSERT INTO articles SELECT n, 'Bread ' || n, 'how to bake bread number ' || n, 7, true FROM generate_series(1, 20) n",
        "INSERT INTO articles VALUES (21, 'Draft', 'how to bake bread', 7, false), (22, 'Other', 'how to bake bread', 8, true)",
    )
    synced.pipeline("articles", source="articles", text=["title", "body"], where="published")
    synced.run(
        f"GRANT SELECT ON articles, articles_embedding TO {APPLICATION}",
        # the vector of a draft, and one of another model, as they may be there for a moment
        "INSERT INTO articles_embedding SELECT 21, 0, NULL, embedding, fingerprint, model, now() FROM articles_embedding WHERE id = 22",
        "UPDATE articles_embedding SET model = 'the old one' WHERE id = 20",
    )
    return synced


def run(synced: Synced, page: str, code: str, folder: Path) -> str:
    """Writes the files of a page, and runs code that uses them with an application's rights."""
    for name, body in FILE.findall((RECIPES / page).read_text("utf-8")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(body, "utf-8")
    (folder / "shop/__init__.py").touch()
    return run_python(code, folder, DATABASE_URL=synced.database.url_as(APPLICATION))


EXPECTED = str(list(range(1, 20)))


def test_django_finds_what_the_pipeline_keeps_and_creates_no_table_for_it(
    articles: Synced, tmp_path: Path
) -> None:
    printed = run(articles, "django.md", DJANGO, tmp_path)
    assert f"found {EXPECTED}" in printed
    assert 'CREATE TABLE "articles"' in printed
    assert 'CREATE TABLE "articles_embedding"' not in printed


def test_sqlalchemy_finds_rows_and_alembic_leaves_ours_alone(articles: Synced, tmp_path: Path) -> None:
    printed = run(articles, "sqlalchemy.md", SEARCH_ROWS + ALEMBIC, tmp_path)
    without, with_filter = printed.splitlines()
    assert "articles_embedding" in without
    assert "pgvector_sync.outbox" in without
    assert with_filter == "with []"


def test_fastapi_pages_through_all_rows_and_refuses_a_forged_page(articles: Synced, tmp_path: Path) -> None:
    printed = run(articles, "fastapi.md", FASTAPI, tmp_path)
    assert f"found {EXPECTED}" in printed
    assert "forged 422" in printed


def test_hybrid_search_ranks_by_words_and_vectors(articles: Synced, tmp_path: Path) -> None:
    page = (RECIPES / "hybrid-search.md").read_text("utf-8")
    articles.run(*re.findall(r"```sql\n(.*?)```", page, re.DOTALL))
    code = "from shop.search import search\nprint([row[0] for row in search('bread 13', tenant=7, k=50)])"
    printed = run(articles, "hybrid-search.md", code, tmp_path)
    found = [int(number) for number in re.findall(r"\d+", printed)]
    assert found[0] == 13
    assert sorted(found) == list(range(1, 20))
