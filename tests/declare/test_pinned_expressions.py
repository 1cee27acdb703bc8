"""Text and `where` mean the same to workers and the application, even with different search_paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pgvector_sync.errors import Refused
from pgvector_sync.runtime.bootstrap import Embedders
from support import synced as with_endpoint
from support.endpoint import Endpoint
from support.servers import Database
from support.synced import Synced

ROWS = 60
MIXED = "CASE i % 2 WHEN 0 THEN 'published' ELSE 'Published' END"


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    """Extensions have their own schema on the database's default search_path, as on managed services."""
    database.execute("CREATE SCHEMA extensions")
    database.execute(f"ALTER DATABASE {database.name} SET search_path = '$user', public, extensions")
    with with_endpoint.open_synced(database, shared, tmp_path, monkeypatch) as synced:
        yield synced


@pytest.fixture
def articles(synced: Synced) -> Synced:
    """A case-insensitive type like citext, with its own `=` in its own schema."""
    synced.run(
        "CREATE FUNCTION extensions.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE "
        "SET search_path = pg_catalog AS 'SELECT lower($1) = lower($2)'",
        "CREATE DOMAIN extensions.word AS text",
        "CREATE FUNCTION extensions.same(extensions.word, text) RETURNS boolean LANGUAGE sql IMMUTABLE "
        "RETURN pg_catalog.lower($1::text) = pg_catalog.lower($2)",
        "CREATE OPERATOR extensions.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = extensions.same)",
        "CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)",
        "ALTER DATABASE " + synced.database.name + " SET search_path = extensions, public",
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, status text)",
        f"INSERT INTO docs SELECT i, 'text ' || i, {MIXED} FROM generate_series(1, {ROWS}) AS i",
    )
    return synced


def test_an_operator_that_resolves_differently_chooses_the_rows_that_the_application_sees(
    articles: Synced,
) -> None:
    seen = articles.database.value("SELECT count(*) FROM docs WHERE status === 'published'")
    assert seen == ROWS
    articles.declare(where="status === 'published'")
    [planned] = articles.plan().pipelines
    assert planned.matching == ROWS
    assert "operator extensions.===(text,text)" in map(str, planned.expressions.depends)
    articles.apply()
    articles.sync()
    assert len(articles.vectors()) == ROWS
    assert articles.plan().empty, "a plan compares what the file says"
    assert articles.shape().pipeline.options.where == "status === 'published'"


def test_a_type_a_function_and_a_cast_off_our_path_are_found(articles: Synced) -> None:
    articles.run(
        "CREATE TYPE extensions.state AS ENUM ('on', 'off')",
        "ALTER TABLE docs ADD state extensions.state DEFAULT 'on'",
        "CREATE FUNCTION extensions.shout(text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog "
        "AS 'SELECT upper($1)'",
    )
    articles.declare(text={"sql": "shout(body) || '%' -- loud"}, where="state = 'on' AND state <> 'off'::state")
    articles.apply()
    articles.sync()
    assert len(articles.vectors()) == ROWS
    assert articles.plan().empty


def test_a_search_path_that_has_changed_since_is_shown_as_a_change(
    articles: Synced, shared: tuple[Endpoint, Embedders]
) -> None:
    articles.declare(where="status === 'published'")
    articles.apply()
    articles.sync()
    articles.run(f"ALTER DATABASE {articles.database.name} SET search_path = public, extensions")
    with with_endpoint.runtime_of(articles.database.url, articles.runtime.embedder) as fresh:
        [planned] = articles.plan(fresh).pipelines
        [change] = planned.changes
        assert change.what == "where"
        assert "extensions.===" in change.before
        assert "public.===" in change.after
        articles.apply(fresh)
        articles.settle(runtime=fresh)
    assert len(articles.vectors()) == ROWS // 2


def test_a_function_whose_body_needs_the_default_search_path_is_refused_with_the_statement(
    articles: Synced,
) -> None:
    articles.run(
        "CREATE FUNCTION public.plain(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE "
        "AS 'BEGIN RETURN CASE WHEN t === t THEN t END; END'"
    )
    articles.declare(text={"sql": "plain(body)"})
    with pytest.raises(Refused, match=r"public\.plain\(text\) would look names up without extensions") as refused:
        articles.plan()
    articles.run(str(refused.value.hint))
    articles.apply()
    articles.sync()
    assert len(articles.vectors()) == ROWS


@pytest.mark.parametrize(
    "expression",
    [
        "body",
        "docs.body || docs.status",
        "CASE WHEN id > 5 THEN body ELSE status END",
        "coalesce(body, '') || E'\\n\\n' || 'it''s 100 %'",
        "(SELECT upper(body))",
        "to_jsonb(docs)::text",
        "format('%s: %s', status, body) /* said */",
        "body COLLATE \"C\" || array_to_string(ARRAY[body, status], ', ')",
        "concat_ws(' ', VARIADIC ARRAY[body, status])",
        "body || (id BETWEEN 3 AND 5)::text || (status IN ('a', 'published'))::text",
    ],
)
@pytest.mark.quick_variants(5)
def test_a_pinned_expression_gives_the_same_text(articles: Synced, expression: str) -> None:
    articles.declare(text={"sql": expression})
    articles.apply()
    articles.sync()
    told = dict(articles.database.execute(f"SELECT id, ({expression})::text FROM docs"))
    assert {key: text for (key,), text in articles.texts().items()} == told
    assert articles.plan().empty


@pytest.fixture
def public_only(synced: Synced) -> Synced:
    """The default search_path, and a function whose body finds another function through it."""
    synced.run(
        f"ALTER DATABASE {synced.database.name} SET search_path = '$user', public",
        "CREATE FUNCTION public.inner_(t text) RETURNS text LANGUAGE sql IMMUTABLE RETURN upper(t)",
        "CREATE FUNCTION public.outer_(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_(t); END'",
        "CREATE FUNCTION public.plain(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper(t); END'",
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text)",
    )
    return synced


def test_a_function_whose_body_fails_under_a_workers_search_path_is_found_by_running_it(
    public_only: Synced,
) -> None:
    public_only.run("INSERT INTO docs VALUES (1, 'one')")
    public_only.declare(text={"sql": "outer_(body)"})
    with pytest.raises(Refused, match=r"public\.outer_\(text\) fails \(42883\)") as refused:
        public_only.plan()
    public_only.run(str(refused.value.hint))
    public_only.apply()
    public_only.sync()


def test_a_function_whose_body_needs_no_search_path_is_taken_as_it_is(public_only: Synced) -> None:
    public_only.run("INSERT INTO docs VALUES (1, 'one')")
    public_only.declare(text={"sql": "plain(body)"})
    public_only.apply()
    public_only.sync()


def test_a_plan_names_the_functions_that_no_row_could_try(public_only: Synced) -> None:
    public_only.declare(text={"sql": "plain(body)"})
    [planned] = public_only.plan().pipelines
    assert planned.untried == ("public.plain(text)",)
