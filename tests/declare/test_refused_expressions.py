"""Expressions that aren't valid, or whose result could change without the row changing."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import Refused
from support.synced import DOCS, Synced

VOLATILE = ["random()", "clock_timestamp()", "gen_random_uuid()", "timeofday()", "mine(body)"]
CLOCK = [
    "now()",
    "statement_timestamp()",
    "transaction_timestamp()",
    "current_date",
    "current_timestamp",
    "localtime",
]


@pytest.fixture
def docs(synced: Synced) -> Synced:
    synced.run(
        DOCS,
        "CREATE TABLE other (id int, word text)",
        "CREATE SEQUENCE other_id_seq",
        "CREATE FUNCTION mine(t text) RETURNS text LANGUAGE sql AS 'SELECT word FROM other'",
    )
    return synced


def refusal(synced: Synced, **values: object) -> Refused:
    synced.declare(**values)
    with pytest.raises(Refused) as refused:
        synced.apply()
    assert synced.names() == []
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize(
    "expression", [*VOLATILE, *CLOCK, "age(now())", "date_trunc('day', now())", "current_user"]
)
@pytest.mark.quick_variants(7)
def test_a_text_that_depends_on_more_than_the_row_is_refused(docs: Synced, expression: str):
    refused = refusal(docs, text={"sql": f"body || ({expression})::text"})
    assert "depends on more than the row" in str(refused)


@pytest.mark.parametrize("expression", ["random() > 0.5", "now() > '2024-01-01'", "mine(body) = 'x'"])
def test_a_where_that_depends_on_more_than_the_row_is_refused(docs: Synced, expression: str):
    assert "depends on more than the row" in str(refusal(docs, where=expression))


def test_an_age_against_today_is_refused_and_one_between_columns_is_not(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, born timestamptz, died timestamptz)")
    assert "age(timestamp with time zone)" in str(refusal(synced, text={"sql": "age(born)::text"}))
    synced.declare(text={"sql": "age(died, born)::text"})
    synced.apply()


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT word FROM other WHERE other.id = docs.id)",
        "CASE WHEN EXISTS (SELECT FROM other) THEN body END",
        "body || (SELECT relname FROM pg_class LIMIT 1)",
        "body || nextval('other_id_seq')",
    ],
)
def test_a_text_that_reads_another_table_is_refused_and_the_table_is_named(docs: Synced, expression: str):
    refused = refusal(docs, text={"sql": expression})
    assert "the expression reads " in str(refused)
    assert ("other" in str(refused)) or ("pg_class" in str(refused))


@pytest.mark.parametrize(
    "expression", ["(SELECT max(d.body) FROM docs d)", "body || (SELECT count(*) FROM docs WHERE id < 5)::text"]
)
def test_a_text_that_reads_other_rows_of_the_source_is_refused(docs: Synced, expression: str):
    assert "other rows" in str(refusal(docs, text={"sql": expression}))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": {"sql": "string_agg(body, ',')"}}, "aggregate functions are not allowed"),
        ({"text": {"sql": "row_number() OVER ()"}}, "window functions are not allowed"),
        ({"text": {"sql": "unnest(ARRAY[body])"}}, "set-returning functions are not allowed"),
        ({"text": {"sql": "boddy"}}, 'column "boddy" does not exist'),
        ({"text": {"sql": "nofunction(body)"}}, "function nofunction(text) does not exist"),
        ({"text": {"sql": "body ||"}}, "syntax error"),
        ({"text": {"sql": "body) FROM docs; DROP TABLE other; SELECT (1"}}, "`text` is not valid"),
        ({"text": {"sql": "body) FROM docs; COMMIT; DROP TABLE other; --"}}, "`text` is not valid"),
        ({"text": {"sql": "body /* never ended"}}, "`text` is not valid"),
        ({"text": {"sql": "'abc'::int"}}, "`text` is not valid"),
        ({"text": {"sql": "%s"}}, "`text` is not valid"),
        ({"text": {"sql": "xmin::text"}}, "system column"),
        ({"text": {"sql": "ctid::text"}}, "system column"),
        ({"text": {"sql": "tableoid::text"}}, "system column"),
        ({"where": "body"}, "argument of AND must be type boolean"),
        ({"where": "id"}, "argument of AND must be type boolean"),
        ({"where": "body LIKE"}, "`where` is not valid for public.docs: syntax error"),
        ({"where": "boddy"}, '`where` is not valid for public.docs: column "boddy" does not exist'),
        ({"where": "count(*) > 1"}, "aggregate functions are not allowed"),
    ],
)
@pytest.mark.quick_variants(8)
def test_an_invalid_expression_is_refused(docs: Synced, values: dict[str, object], reason: str):
    assert reason in str(refusal(docs, **values))
    assert docs.database.value("SELECT to_regclass('public.other') IS NOT NULL")
    assert docs.database.value("SELECT to_regclass('public.docs') IS NOT NULL")


def test_a_refusal_names_the_columns_that_exist(docs: Synced):
    assert refusal(docs, text={"sql": "boddy"}).hint == "its columns are id, body, note, unread"
