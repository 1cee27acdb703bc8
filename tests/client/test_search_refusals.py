"""What a search refuses, and that a value is never part of its SQL."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgvector_sync import DatabaseRefuses, OutOfTime, Refused, Sync
from support.beginnings import begins_with, default_source
from support.client import sync_as
from support.roles import WORKER
from support.synced import Synced


def four_rows(synced: Synced) -> None:
    default_source(synced)
    synced.filled("INSERT INTO docs SELECT n, 'text ' || n, n % 3 FROM generate_series(1, 4) n")


beginning, docs = begins_with(four_rows)


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, WORKER) as sync:
        yield sync


INVALID = {
    "nothing = 1": 'column "nothing" does not exist',
    "id": "must be type boolean",
    "id = 'x'": "invalid input syntax for type bigint",
    "fold(body) = 'x'": "function fold(text) does not exist",
    "id IN (SELECT id FROM others)": 'relation "others" does not exist',
    "count(*) > 1": "aggregate functions are not allowed",
    "true; DELETE FROM public.docs": "syntax error",
    "true) OR (true": "syntax error",
    "true) UNION SELECT WHERE (true": "syntax error",
    "true ORDER BY id": "syntax error",
    "true /*": "unterminated",
    "body = 'x": "unterminated",
    "EXISTS (DELETE FROM public.docs RETURNING 1)": "syntax error",
    "EXISTS (WITH gone AS (DELETE FROM public.docs RETURNING 1) SELECT FROM gone)": "data-modifying statement",
    "pgvector_sync_stored.chunk_no = 0": "missing FROM-clause",
}


def test_a_condition_that_isnt_one_boolean_expression_is_refused(docs: Synced, sync: Sync) -> None:
    paid = docs.endpoint.calls.requests
    for where, words in INVALID.items():
        for params in (None, {}):
            with pytest.raises(Refused, match=r"the condition is not valid for public\.docs: ") as refused:
                sync.search("docs", "text 1", where=where, params=params)
            assert words in str(refused.value), where
            assert refused.value.hint
    with pytest.raises(Refused) as refused:
        sync.search("docs", "text 1", where="fold(body) = 'x'")
    assert "names are looked up in pg_catalog only: write public.f(x)" in (refused.value.hint or "")
    assert docs.database.value("SELECT count(*) FROM docs") == 4
    assert docs.endpoint.calls.requests == paid


def test_a_condition_that_writes_is_refused_and_writes_nothing(docs: Synced, sync: Sync) -> None:
    docs.run(
        "CREATE FUNCTION writes() RETURNS boolean LANGUAGE sql AS $$ DELETE FROM public.docs; SELECT true $$",
        f"GRANT DELETE ON docs TO {WORKER}",
        "CREATE SEQUENCE counted",
        f"GRANT USAGE ON SEQUENCE counted TO {WORKER}",
    )
    for where in ("public.writes()", "nextval('public.counted') > 0"):
        with pytest.raises(Refused, match="the condition writes to the database"):
            sync.search("docs", "text 1", where=where)
    with pytest.raises(Refused, match="the condition fails"):
        sync.search(
            "docs", "text 1", where="set_config('transaction_read_only', 'off', true) = 'off' AND public.writes()"
        )
    assert docs.database.value("SELECT count(*) FROM docs") == 4
    assert len(sync.search("docs", "text 1")) == 4


def test_a_condition_that_fails_on_a_row_quotes_nothing_of_it(docs: Synced, sync: Sync) -> None:
    with pytest.raises(Refused, match=r"^the condition fails \(22P02\)$") as refused:
        sync.search("docs", "text 1", where="body::int > 3")
    assert "text" not in (refused.value.hint or "")


def test_a_missing_parameter_is_named(sync: Sync) -> None:
    for params in (None, {}, {"other": 1}):
        with pytest.raises(Refused, match="`where` needs a value for least, most") as refused:
            sync.search(
                "docs", "text 1", where="id BETWEEN %(least)s AND %(most)s AND id > %(least)s", params=params
            )
        assert refused.value.hint == "params={'least': …, 'most': …}"
    with pytest.raises(Refused, match="`where` contains a single percent sign") as refused:
        sync.search("docs", "text 1", where="body LIKE '%x' AND id = %(id)s", params={"id": 1})
    assert "write %% for a percent sign" in (refused.value.hint or "")


def test_a_value_in_params_is_never_part_of_the_sql(docs: Synced, sync: Sync) -> None:
    for value in ("x' OR true --", "%(query_vector)s", "1); DELETE FROM docs; --", "%s"):
        docs.run(f"INSERT INTO docs VALUES (9, $$text$$, $${value}$$)")
        docs.settle()
        found = sync.search("docs", "text", 10, where="note = %(note)s", params={"note": value})
        assert [hit.key for hit in found] == [(9,)]
        docs.run("DELETE FROM docs WHERE id = 9")
    # names that our own statement uses
    names = {"limit": 1, "query_vector": 2, "model": 3, "pipeline_id": 4, "candidates": 5, "where.limit": 6}
    some = sync.search("docs", "text", 10, where=" OR ".join(f"id = %({name})s" for name in names), params=names)
    assert sorted(hit.key[0] for hit in some) == [1, 2, 3, 4]


def test_a_value_that_cant_be_sent_is_named_by_its_type(sync: Sync) -> None:
    for value, words in (
        (object(), "cannot adapt type 'object'"),
        ("a\0b", "NUL"),
        ({"a": 1}, "cannot adapt type 'dict'"),
    ):
        with pytest.raises(Refused, match="a parameter of the condition can't be sent: ") as refused:
            sync.search("docs", "text 1", where="note = %(x)s", params={"x": value})
        assert words in str(refused.value)


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "k 0": ({"k": 0}, "expected k from 1 to 1,000, got 0"),
    "k -1": ({"k": -1}, "expected k from 1 to 1,000, got -1"),
    "k 1001": ({"k": 1001}, "expected k from 1 to 1,000, got 1001"),
    "k '5'": ({"k": "5"}, "expected k from 1 to 1,000, got '5'"),
    "similarity": (
        {"min_similarity": 1.01},
        "expected min_similarity from -1 to 1 for the metric cosine, got 1.01",
    ),
    "NaN": ({"min_similarity": float("nan")}, "expected min_similarity from -1 to 1"),
    "words": ({"min_similarity": "high"}, "expected min_similarity from -1 to 1"),
    "column": ({"columns": ["body", "titel"]}, "public.docs has no column titel"),
    "system column": ({"columns": ["ctid"]}, "public.docs has no column ctid"),
    "expression": ({"columns": ["upper(body)"]}, r"public.docs has no column upper\(body\)"),
    "string": ({"columns": "body"}, "expected a list of columns, got a string"),
    "no time": ({"timeout": timedelta(0)}, "no time left"),
}


def test_values_out_of_range_are_refused_with_what_is_expected(sync: Sync) -> None:
    query = sync.embed_query("docs", "text 1")
    for asked, words in ASKED.values():
        with pytest.raises((Refused, OutOfTime), match=words) as refused:
            sync.search("docs", query, **asked)
        assert refused.value.hint, words


def test_a_blank_query_is_refused_without_a_call(docs: Synced, sync: Sync) -> None:
    calls = docs.endpoint.calls.requests
    for text in ("", " \n\t", "\u2003"):
        with pytest.raises(Refused, match="the query is blank"):
            sync.search("docs", text)
        with pytest.raises(Refused, match="the query is blank"):
            sync.embed_query("docs", text)
    assert docs.endpoint.calls.requests == calls


def token(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def test_a_forged_page_token_is_refused(docs: Synced, sync: Sync) -> None:
    first = sync.search("docs", "text 1", 1)
    assert first.next is not None
    assert len(sync.search("docs", "text 1", 9, after=first.next)) == 3
    model = docs.shape().pipeline.spec.model
    forged = [
        "", "x", "é", "....", token(None), token({}), token([model, 0.5, [1]]), token([model, 0.5, ["x"], 0]), token([model, "x", [1], 0]),
        token([model, 0.5, [1, 2], 0]), token([model, 0.5, ["1); DROP TABLE docs"], 0]), token([model, float("nan"), [1], 0]),
        token([model, 0.5, [1], -1]), token([model, 0.5, [1], 2**40]), token([model, 0.5, [2**70], 0]), token([1, 0.5, [1], 0]),
        token([model, 10**400, [1], 0]), base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ]  # fmt: skip
    for after in forged:
        with pytest.raises(Refused, match="`after` isn't a valid page token"):
            sync.search("docs", "text 1", after=after)
    with pytest.raises(Refused, match="the model of docs has changed since the previous page"):
        sync.search("docs", "text 1", after=token(["another", 0.5, [1], 0]))


def test_a_pipeline_that_doesnt_exist_or_is_being_removed_is_refused(docs: Synced, sync: Sync) -> None:
    with pytest.raises(Refused, match="there is no pipeline nothing") as refused:
        sync.search("nothing", "text 1")
    assert refused.value.hint == "known pipelines: docs"
    docs.run("UPDATE pgvector_sync.pipeline SET state = 'removing'")
    with pytest.raises(Refused, match="docs is being removed"):
        sync.search("docs", "text 1")


def test_an_expression_of_the_pipeline_that_fails_is_not_blamed_on_the_condition(docs: Synced, sync: Sync) -> None:
    docs.pipeline(text={"sql": "(100 / id)::text || body"})
    docs.run(
        "ALTER TABLE docs DISABLE TRIGGER USER",
        "DELETE FROM docs WHERE id = 1",
        "INSERT INTO docs VALUES (0, 'x')",
    )
    docs.run("UPDATE docs_embedding SET id = 0 WHERE id = 1")
    with pytest.raises(DatabaseRefuses, match=r"22012"):
        sync.search("docs", "text 1", 10)


def test_a_search_that_takes_too_long_is_ended(docs: Synced, sync: Sync) -> None:
    query = sync.embed_query("docs", "text 1")
    with pytest.raises(Refused, match=r"searching docs took longer than 0\.[0-9]+ s"):
        sync.search("docs", query, where="pg_sleep(60)::text = ''", timeout=timedelta(seconds=0.3))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()"
    assert docs.database.value(running) == 0


def test_a_lock_on_the_source_ends_a_search_soon(docs: Synced, sync: Sync) -> None:
    query = sync.embed_query("docs", "text 1")
    with docs.database.connect() as other, other.transaction():
        other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            sync.search("docs", query)
    assert len(sync.search("docs", query)) == 4


def test_a_text_that_isnt_unicode_is_refused(docs: Synced, sync: Sync) -> None:
    half = json.loads('"half of a pair: \\ud83d"')  # as an application reads it from a request
    for search in (
        lambda: sync.embed_query("docs", half),
        lambda: sync.search("docs", half),
        lambda: sync.search("docs", "text 1", where=f"body = '{half}'"),
        lambda: sync.search("docs", "text 1", where="body = %(body)s", params={"body": half}),
        lambda: sync.search("docs", "text 1", columns=[half]),
    ):
        with pytest.raises(Refused, match=r"can't be sent as utf-8: surrogates not allowed|no column"):
            search()


def test_an_argument_of_a_wrong_type_is_refused(docs: Synced, sync: Sync) -> None:
    paid = docs.endpoint.calls.requests
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"pipeline": None}, "expected pipeline of type str, got NoneType"),
        ({"query": None}, "expected query of type str, got NoneType"),
        ({"query": [0.1] * 8}, "expected query of type str, got list"),
        ({"timeout": 5}, "expected timeout of type timedelta, got int"),
        ({"where": True}, "expected where of type str, got bool"),
        ({"where": " "}, "the condition is empty"),
        ({"where": "true\0"}, "the condition is empty, or has a NUL character"),
        ({"k": "5"}, "expected k from 1 to 1,000, got '5'"),
    ]
    for changed, says in wrong:
        with pytest.raises(Refused) as refused:
            sync.search(**({"pipeline": "docs", "query": "text 1"} | changed))
        assert says in str(refused.value), changed
        assert refused.value.hint
    with pytest.raises(Refused, match="expected query of type str, got bytes"):
        sync.embed_query("docs", b"text 1")  # type: ignore[arg-type]
    assert docs.endpoint.calls.requests == paid
