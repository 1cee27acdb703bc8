"""`init` as it is typed. What it writes is accepted by `apply --dry-run`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.servers import Database
from support.synced import Synced

Typed = Callable[..., tuple[int, str, str]]
ARTICLES = (
    "CREATE TABLE articles (id bigint PRIMARY KEY, body text, title text, author_email text, cover_url text, "
    "password_hash text, payload jsonb, status text, is_deleted boolean, deleted_at timestamptz)"
)
KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "VOYAGE_API_KEY", "CO_API_KEY", "GEMINI_API_KEY")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and an environment without keys."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: str = "pgvector-sync.toml") -> dict[str, Any]:
    """The only pipeline of the file."""
    [pipeline] = tomllib.loads(Path(path).read_text("utf-8"))["pipelines"].values()
    return dict(pipeline)


def test_a_table_gets_a_file_that_apply_accepts_and_the_next_commands(synced: Synced, typed: Typed) -> None:
    synced.run(
        ARTICLES,
        "INSERT INTO articles SELECT n, repeat('word ', 40), 'title ' || n FROM generate_series(1, 500) n",
        "ANALYZE articles",
    )
    code, out, err = typed("init", "articles", "--provider", "local")
    assert (code, err) == (0, "")
    assert written() == {
        "source": "public.articles",
        "text": ["title", "body"],
        "provider": "local",
        "model": "wordllama",
        "dimensions": 256,
    }
    for left_out in ("author_email: looks like an e-mail", "cover_url", "password_hash: looks like a", "payload"):
        assert f"left out  {left_out}" in out
    assert "about 500 rows" in out
    assert "free" in out
    assert "where = NOT is_deleted AND deleted_at IS NULL" in out
    where = '# where = "NOT is_deleted AND deleted_at IS NULL"  # other rows would then have no vectors'
    assert where in Path("pgvector-sync.toml").read_text("utf-8")
    assert "\n  pgvector-sync worker    # and beat" in out
    assert "\n  pgvector-sync beat\n" in out
    for command in ("apply --dry-run", "apply", "worker"):
        assert f"  pgvector-sync {command}" in out
    assert "migrate" not in out
    code, out, err = typed("apply", "--dry-run")
    assert (code, err) == (0, "")
    assert "+ pipeline articles: public.articles → public.articles_embedding" in out


SHAPES = {
    "a composite key": ("CREATE TABLE t (a int, b uuid, body text, PRIMARY KEY (b, a))", "t", {"text": ["body"]}),
    "a unique key": (
        "CREATE TABLE t (a int NOT NULL UNIQUE, b int NOT NULL UNIQUE, body text)",
        "t",
        {"key": ["a"], "text": ["body"]},
    ),
    "a primary key that can't be used": (
        "CREATE TYPE e AS ENUM ('x'); CREATE TABLE t (a e PRIMARY KEY, b int NOT NULL UNIQUE, body text)",
        "t",
        {"key": ["b"]},
    ),
    "partitions": (
        (
            "CREATE TABLE t (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); "
            "CREATE TABLE t1 PARTITION OF t DEFAULT"
        ),
        "t",
        {"source": "public.t", "text": ["body"]},
    ),
    "generated columns": (
        "CREATE TABLE t (id int PRIMARY KEY, body text, upper_body text GENERATED ALWAYS AS (upper(body)) STORED)",
        "t",
        {"text": ["body"]},
    ),
    "quoted names": (
        """CREATE TABLE "My ""odd"" Table" ("Id" int PRIMARY KEY, "Body of text" text, "postTitle" varchar(80))""",
        'My "odd" Table',
        {"text": ["postTitle", "Body of text"], "source": 'public."My ""odd"" Table"'},
    ),
    "capital letters": (
        'CREATE TABLE "Articles" (id int PRIMARY KEY, "Body" text, "deletedAt" timestamptz)',
        "Articles",
        {"source": 'public."Articles"', "text": ["Body"]},
    ),
    "keywords as names": (
        'CREATE TABLE "order" ("select" int PRIMARY KEY, "from" text, "table" text)',
        "order",
        {"source": "public.order", "text": ["from", "table"]},
    ),
    "another schema": (
        'CREATE SCHEMA "Shop"; CREATE TABLE "Shop".items (id int PRIMARY KEY, name citext_, description text)',
        "items",
        {"source": '"Shop".items', "text": ["name", "description"]},
    ),
    "a schema that is named": (
        "CREATE SCHEMA a; CREATE TABLE a.t (id int PRIMARY KEY, body text); CREATE TABLE t (id int PRIMARY KEY)",
        "a.t",
        {"source": "a.t"},
    ),
    "a long name": (
        f"CREATE TABLE {'t' * 60} (id int PRIMARY KEY, body text)",
        "t" * 60,
        {"target": f"public.{'t' * 40}_embedding"},
    ),
    "a target's name that is taken": (
        "CREATE TABLE t (id int PRIMARY KEY, body text); CREATE VIEW t_embedding AS SELECT 1",
        "t",
        {"target": "public.t_vectors"},
    ),
    "a name that isn't ASCII": (
        'CREATE TABLE "表" (id int PRIMARY KEY, "本文" text)',
        "表",
        {"text": ["本文"], "source": 'public."表"'},
    ),
    "a column whose name has a line break": (
        'CREATE TABLE t (id int PRIMARY KEY, body text, "a\nprovider = email" text)',
        "t",
        {"provider": "local"},
    ),
}


@pytest.mark.quick_variants(6)
@pytest.mark.parametrize("shape", SHAPES)
def test_many_shapes_of_tables_get_a_file_that_apply_accepts(synced: Synced, typed: Typed, shape: str) -> None:
    statements, name, expected = SHAPES[shape]
    synced.run("CREATE DOMAIN citext_ AS text", *statements.split("; " if ";" in statements else "\0"))
    code, _, err = typed("init", name, "--provider", "local")
    assert (code, err) == (0, "")
    assert written() | expected == written()
    code, out, err = typed("apply", "--dry-run")
    assert (code, err) == (0, ""), Path("pgvector-sync.toml").read_text("utf-8")
    assert "+ pipeline " in out


@pytest.mark.parametrize(
    ("statement", "name", "message", "hint"),
    [
        (
            "CREATE TABLE articles (id int)",
            "artcles",
            "there is no table artcles",
            "did you mean public.articles?",
        ),
        ("CREATE VIEW v AS SELECT 1 AS id, 'x'::text AS body", "v", "public.v is a view", "underlying table"),
        ("CREATE TABLE t (body text)", "t", "public.t has no primary key", "ADD PRIMARY KEY"),
        ("CREATE TABLE t (id int PRIMARY KEY, n int)", "t", "no column that looks like text", "text.sql"),
        ("CREATE TABLE t (id int PRIMARY KEY, email text)", "t", "no column that looks like text", "--text email"),
        ("SELECT", "nothing", "there is no table nothing", "pgvector-sync init"),
    ],
)
def test_a_table_that_cannot_be_a_source_is_refused_with_what_is_missing(
    synced: Synced, typed: Typed, statement: str, name: str, message: str, hint: str
) -> None:
    synced.run(statement)
    code, out, err = typed("init", name, "--provider", "local")
    assert (code, out) == (1, "")
    assert message in err
    assert hint in err
    assert not Path("pgvector-sync.toml").exists()


def test_a_missing_grant_is_named_with_the_statement(synced: Synced, typed: Typed) -> None:
    synced.run("CREATE TABLE t (id int PRIMARY KEY, body text)", "REVOKE ALL ON t FROM sync_owner")
    code, _, err = typed("init", "t", "--provider", "local")
    assert code == 1
    assert "GRANT SELECT ON" in err


def test_a_file_is_never_overwritten_without_force(synced: Synced, typed: Typed) -> None:
    synced.run(ARTICLES)
    Path("pgvector-sync.toml").write_text("mine")
    code, _, err = typed("init", "articles", "--provider", "local")
    assert code == 1
    assert "pgvector-sync.toml exists" in err
    assert "--force" in err
    assert Path("pgvector-sync.toml").read_text() == "mine"
    code, out, err = typed("init", "articles", "--provider", "local", "-o", "-")
    assert code == 0
    assert tomllib.loads(out)["pipelines"]["articles"]["text"] == ["title", "body"]
    assert "pgvector-sync apply --dry-run" in err
    assert typed("init", "articles", "--provider", "local", "--print")[1] == out
    assert typed("init", "articles", "--provider", "local", "-o", "other file.toml")[0] == 0
    assert written("other file.toml")["source"] == "public.articles"
    assert typed("init", "articles", "--provider", "local", "--force")[0] == 0
    assert written()["source"] == "public.articles"


def test_without_a_table_it_lists_those_with_text(synced: Synced, typed: Typed) -> None:
    synced.run(ARTICLES, "CREATE TABLE numbers (id int PRIMARY KEY)", "CREATE SCHEMA s")
    synced.run('CREATE TABLE s."Notes" (id int PRIMARY KEY, body text)')
    typed("init", "articles", "--provider", "local")
    typed("apply", "--yes")
    code, out, err = typed("init", "-o", "other.toml")
    assert code == 1
    assert "name one of these tables" in err
    assert "public.articles " in out
    assert 's."Notes"' in out
    assert "numbers" not in out
    assert "articles_embedding" not in out


MODELS: list[tuple[dict[str, str], list[str], dict[str, Any]]] = [
    ({}, [], {"provider": "local", "dimensions": 256}),
    ({"OPENAI_API_KEY": "k"}, [], {"provider": "openai", "model": "text-embedding-3-small", "dimensions": 1536}),
    ({"VOYAGE_API_KEY": "k"}, [], {"provider": "voyage", "model": "voyage-4", "dimensions": 1024}),
    (
        {"OPENAI_API_KEY": "k"},
        ["--model", "text-embedding-3-large"],
        {"dimensions": 3072, "vector_type": "halfvec"},
    ),
    (
        {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://llm.example.com/v1"},
        ["--model", "intfloat/multilingual-e5-large"],
        {"dimensions": 1024, "document": {"prefix": "passage: "}, "query": {"prefix": "query: "}},
    ),
    (
        {"PGVECTOR_SYNC_ALLOWED_HOSTS": "http://localhost:11434"},
        ["--provider", "ollama"],
        {"provider": "ollama", "dimensions": 768, "document": {"prefix": "search_document: "}},
    ),
    ({"OPENAI_API_KEY": "k"}, ["--model", "new", "--dimensions", "64"], {"model": "new", "dimensions": 64}),
]


@pytest.mark.parametrize(("environment", "options", "expected"), MODELS)
def test_the_model_follows_from_the_environment_and_the_prefixes_from_the_model(
    synced: Synced,
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    options: list[str],
    expected: dict[str, Any],
) -> None:
    synced.run(ARTICLES)
    monkeypatch.delenv("PGVECTOR_SYNC_ALLOWED_HOSTS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert typed("init", "articles", *options)[0] == 0
    assert written() | expected == written()
    code, out, err = typed("apply", "--dry-run")
    assert (code, err) == (0, "")
    assert "expects documents and queries in different forms" not in out


def test_what_is_unknown_about_a_model_is_asked_for(
    synced: Synced, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.run(ARTICLES)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://llm.example.com/v1")
    code, _, err = typed("init", "articles")
    assert code == 2
    assert "--model NAME --dimensions NUMBER" in err
    code, _, err = typed("init", "articles", "--model", "acme-embed")
    assert code == 2
    assert "add --dimensions NUMBER" in err
    code, _, err = typed("init", "articles", "--provider", "acme")
    assert code == 2
    assert "expected one of cohere, gemini, local, ollama, openai, voyage; got 'acme'" in err


def test_the_next_commands_include_migrate_and_a_missing_key(
    database: Database, command_line: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    database.execute("DROP SCHEMA pgvector_sync CASCADE")
    monkeypatch.setenv("DATABASE_URL", database.url)
    code, out, _ = command_line("init", "t", "--provider", "openai")
    assert code == 0
    assert "  export OPENAI_API_KEY=…\n  pgvector-sync migrate\n  pgvector-sync apply --dry-run\n" in out


def test_a_database_that_is_away_is_an_error_without_a_trace(
    command_line: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, out, err = command_line("init", "t")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
