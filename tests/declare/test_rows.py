"""Unusual rows, from the backfill and from capture."""

from __future__ import annotations

import pytest

from support.synced import DOCS, TEXT_LIMIT, Synced

ODD = [
    "plain",
    "  leading and trailing  ",
    "e\u0301 and \u00e9",
    "\u200b zero width \ufeff",
    "العربية עברית",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "\U0010ffff\ufffe",
    "tab\tnew\r\nline\x01\x7f",
    "quote \" ' \\ $1 %s {x} \\u0000",
    "\u2028separated\u2029",
    "一" * 600,
]


@pytest.mark.parametrize("when", ["before", "after"])
def test_odd_texts_are_embedded_as_they_are(synced: Synced, when: str):
    synced.run(DOCS)
    synced.declare()
    if when == "after":
        synced.apply()
    with synced.database.connect() as connection:
        connection.cursor().executemany("INSERT INTO docs VALUES (%s, %s)", list(enumerate(ODD)))
    if when == "before":
        synced.apply()
    synced.sync()
    assert len(synced.vectors()) == len(ODD)


@pytest.mark.parametrize("blank", ["NULL", "''", "'   '", r"E' \t\n\r '"])
def test_a_row_without_a_text_has_no_vector_and_costs_nothing(synced: Synced, blank: str):
    synced.run(DOCS, f"INSERT INTO docs VALUES (1, {blank}), (2, {blank})")
    paid = synced.paid()
    synced.pipeline()
    assert synced.paid() == paid
    assert synced.vectors() == {}
    synced.run("UPDATE docs SET body = 'one' WHERE id = 1")
    synced.sync()
    assert set(synced.vectors()) == {(1,)}
    synced.run(f"UPDATE docs SET body = {blank} WHERE id = 1")
    synced.sync()
    assert synced.vectors() == {}


def test_the_backfill_of_an_empty_table_ends_at_once(synced: Synced):
    synced.run(DOCS)
    synced.pipeline()
    assert synced.database.execute("SELECT state FROM pgvector_sync.run") == [("finished",)]


def test_a_null_where_excludes_the_row(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, body text, live boolean)")
    synced.run("INSERT INTO docs VALUES (1, 'one', NULL), (2, 'two', true)")
    synced.pipeline(where="live")
    assert set(synced.vectors()) == {(2,)}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_text_over_the_limit_is_a_dead_letter_and_the_longest_that_fits_is_not(synced: Synced, when: str):
    synced.run(DOCS)
    synced.declare()
    rows = f"INSERT INTO docs VALUES (1, repeat('x', {TEXT_LIMIT})), (2, repeat('x', {TEXT_LIMIT + 1})), (3, 'ok')"
    if when == "before":
        synced.run(rows)
        synced.apply()
    else:
        synced.apply()
        synced.run(rows)
    synced.settle()
    synced.covered()
    assert synced.dead() == [([2], "too_large")]
    assert set(synced.vectors()) == {(1,), (3,)}
    synced.run("UPDATE docs SET body = 'short enough' WHERE id = 2")
    synced.sync()
    assert synced.dead() == []


def test_a_text_that_grows_over_the_limit_loses_no_coverage(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.run(f"UPDATE docs SET body = repeat('x', {TEXT_LIMIT * 2})")
    synced.settle()
    synced.covered()
    assert synced.dead() == [([1], "too_large")]
    synced.run("DELETE FROM docs")
    synced.sync()
    assert synced.dead() == []


def test_a_row_on_which_the_text_fails_is_parked_and_the_others_are_embedded(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, part int, whole int)")
    synced.run("INSERT INTO docs SELECT g, 100, g % 10 FROM generate_series(1, 25) g")
    synced.declare(text={"sql": "(part / whole)::text"})
    synced.apply()
    synced.settle()
    assert synced.dead() == [([10], "expression_failed"), ([20], "expression_failed")]
    assert len(synced.vectors()) == 23
    message = synced.database.execute("SELECT DISTINCT error_message FROM pgvector_sync.work")
    assert message == [("text or where failed on this row (22012)",)]
    synced.run("UPDATE docs SET whole = 1 WHERE whole = 0")
    synced.sync()
    assert synced.dead() == []


def test_a_row_on_which_the_where_fails_is_parked_and_the_others_are_embedded(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, body text, age text)")
    synced.run("INSERT INTO docs VALUES (1, 'one', '20'), (2, 'two', 'secret words'), (3, 'three', '5')")
    synced.declare(where="age::int > 10")
    synced.apply()
    synced.settle()
    assert synced.dead() == [([2], "expression_failed")]
    assert set(synced.vectors()) == {(1,)}
    assert "secret" not in str(synced.database.execute("SELECT * FROM pgvector_sync.work"))
    synced.run("DELETE FROM docs WHERE id = 2")
    synced.sync()
