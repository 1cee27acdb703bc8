"""Texts that are expressions: what they read is tracked, and they arrive at the endpoint as they are."""

from __future__ import annotations

import pytest

from support.synced import Synced

COLUMNS = "id int PRIMARY KEY, title text, body text, tags text[], doc jsonb, hits int DEFAULT 0"


@pytest.fixture
def source(synced: Synced) -> Synced:
    synced.run(
        f"CREATE TABLE docs ({COLUMNS})",
        """INSERT INTO docs VALUES (1, 'One', 'first', '{a,b}', '{"k": "v"}'), (2, 'Two', NULL, '{}', NULL)""",
    )
    return synced


@pytest.mark.parametrize(
    ("text", "tracked", "expected"),
    [
        ("title || ' 100%' -- what remains", {"title"}, "One 100%"),
        ("format('%s: %s', title, body)", {"title", "body"}, "One: first"),
        ("title /* a comment */", {"title"}, "One"),
        ("docs.title", {"title"}, "One"),
        ("public.docs.title", {"title"}, "One"),
        ("array_to_string(tags, '%')", {"tags"}, "a%b"),
        ("(SELECT string_agg(upper(t), '-') FROM unnest(tags) t)", {"tags"}, "A-B"),
        ("doc ->> 'k'", {"doc"}, "v"),
        ("CASE WHEN doc ? 'k' THEN title END", {"doc", "title"}, "One"),
        ("length(title)", {"title"}, "3"),
        ("E'it''s \\\\ ' || title", {"title"}, "it's \\ One"),
        ("'{braces} ' || title", {"title"}, "{braces} One"),
        ("'constant'", set(), "constant"),
        ("to_jsonb(docs) ->> 'title'", {"title", "body", "tags", "doc", "hits"}, "One"),
        ("docs::text", {"title", "body", "tags", "doc", "hits"}, '(1,One,first,"{a,b}","{""k"": ""v""}",0)'),
    ],
)
@pytest.mark.quick_variants(5)
def test_an_expression_is_embedded_and_exactly_the_columns_it_reads_are_tracked(
    source: Synced, text: str, tracked: set[str], expected: str
):
    source.pipeline(text={"sql": text})
    assert source.texts()[1,] == expected
    for column, change in {
        "title": "title = 'Uno'",
        "body": "body = 'primero'",
        "tags": "tags = '{c}'",
        "doc": """doc = '{"k": "w"}'""",
        "hits": "hits = hits + 1",
    }.items():
        source.run(f"UPDATE docs SET {change} WHERE id = 1")
        assert source.events() == ([[1]] if column in tracked else [])
        source.sync()


def test_columns_are_joined_by_a_blank_line_and_empty_ones_leave_no_gap(source: Synced):
    source.run("INSERT INTO docs VALUES (3, '', 'only body'), (4, 'only title', ''), (5, '', NULL)")
    source.pipeline(text=["title", "body"])
    assert source.texts() == {(1,): "One\n\nfirst", (2,): "Two", (3,): "only body", (4,): "only title"}


def test_a_where_with_percent_signs_and_a_comment(source: Synced):
    source.pipeline(where="title LIKE 'O%' AND hits % 2 = 0 -- even")
    assert set(source.vectors()) == {(1,)}
    source.run("UPDATE docs SET hits = 1", "INSERT INTO docs VALUES (3, 'Other', 'x')")
    source.sync()
    assert set(source.vectors()) == {(3,)}


def test_a_stored_generated_column_is_tracked(synced: Synced):
    synced.run(
        """CREATE TABLE docs (id int PRIMARY KEY, title text, note text,
                              shout text GENERATED ALWAYS AS (upper(title) || '!') STORED)""",
        "INSERT INTO docs (id, title) VALUES (1, 'one')",
    )
    synced.pipeline(text=["shout"])
    synced.run("UPDATE docs SET note = 'n'", "UPDATE docs SET title = 'ONE'")
    assert synced.events() == []  # the generated text is the same
    synced.run("UPDATE docs SET title = 'uno'")
    assert synced.events() == [[1]]
    synced.sync()
    assert synced.texts() == {(1,): "UNO!"}


def test_a_virtual_generated_column_is_followed_through_the_stored_columns(synced: Synced):
    if synced.database.server.version < 18:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    synced.run(
        """CREATE TABLE docs (id int PRIMARY KEY, title text,
                              shout text GENERATED ALWAYS AS (upper(title) || '!') VIRTUAL)""",
        "INSERT INTO docs (id, title) VALUES (1, 'one')",
    )
    synced.pipeline(text=["shout"])
    synced.run("UPDATE docs SET title = 'uno'")
    assert synced.events() == [[1]]
    synced.sync()
    assert synced.texts() == {(1,): "UNO!"}


@pytest.mark.parametrize("style", ["German,DMY", "SQL,MDY"])
def test_a_text_that_renders_dates_and_numbers_is_the_same_in_every_session(synced: Synced, style: str):
    synced.run(
        """CREATE TABLE docs (id int PRIMARY KEY, day date, at timestamptz, took interval, data bytea, score float8)""",
        r"INSERT INTO docs VALUES (1, '2024-03-01', '2024-03-01 12:00+00', '36 hours', '\xdeadbeef', 0.1)",
    )
    synced.pipeline(text=["day", "at", "took", "data", "score"])
    paid = synced.paid()
    options = f"-c DateStyle={style} -c TimeZone=Asia/Tokyo -c IntervalStyle=sql_standard -c bytea_output=escape"
    with synced.database.connect(options=options) as writer:
        writer.execute("UPDATE docs SET score = 0.2")
        writer.execute("UPDATE docs SET score = 0.1")
    synced.sync()
    assert synced.paid() == paid
    assert synced.texts()[1,].startswith("2024-03-01\n\n2024-03-01 12:00:00+00\n\n36:00:00\n\n\\xdeadbeef")
