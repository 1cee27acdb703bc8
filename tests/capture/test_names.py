"""Names that need quoting, and names that our own statements use."""

from __future__ import annotations

import json

import pytest

from support.synced import Synced

NAMES = [
    "Mixed Case",
    "select",
    "user",
    'double"quote',
    "single'quote",
    "100%",
    "%s",
    "%(key)s",
    "a {brace}",
    "semi;colon -- comment",
    "дом😀",
    "dollar$1",
    "back\\slash",
]
OURS = [
    "k",
    "v",
    "t",
    "w",
    "r",
    "o",
    "d",
    "e",
    "p",
    "old",
    "new",
    "now_",
    "row_",
    "rendered",
    "state_",
    "stored",
    "key",
]


def quoted(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def exercise(synced: Synced, table: str, key: str, body: str) -> None:
    """Backfill, update, key change, delete, truncate."""
    synced.sync()
    synced.run(
        f"INSERT INTO {table} VALUES (2, 'two'), (3, 'three')",
        f"UPDATE {table} SET {body} = 'uno' WHERE {key} = 1",
        f"UPDATE {table} SET {key} = 20 WHERE {key} = 2",
    )
    assert synced.events() == [[2], [3], [1], [20], [2]]
    synced.sync()
    synced.run(f"DELETE FROM {table} WHERE {key} = 20")
    assert set(synced.vectors()) == {(1,), (3,)}
    synced.sync()
    synced.run(f"TRUNCATE {table}", f"INSERT INTO {table} VALUES (1, 'back')")
    synced.sync()
    assert set(synced.vectors()) == {(1,)}
    assert synced.plan().empty
    synced.remove()
    synced.run(f"INSERT INTO {table} VALUES (5, 'five')", f"DELETE FROM {table}")
    assert synced.events() == []


QUICK = {"Mixed Case", 'double"quote', "%(key)s", "a {brace}", "дом😀"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_schema_table_and_column_of_any_name_can_be_a_source(synced: Synced, name: str):
    table, key, body = quoted(name, name), quoted(name + "id"), quoted(name)
    synced.run(f"CREATE SCHEMA {quoted(name)}", f"CREATE TABLE {table} ({key} int PRIMARY KEY, {body} text)")
    synced.run(f"INSERT INTO {table} VALUES (1, 'one')")
    synced.declare(source=table, text=[name], where=f"{body} <> 'nothing'")
    synced.apply()
    exercise(synced, table, key, body)


@pytest.mark.parametrize("name", [*OURS[:4], *(pytest.param(name, marks=pytest.mark.slow) for name in OURS[4:])])
def test_a_table_named_like_something_in_our_statements_can_be_a_source(synced: Synced, name: str):
    table = quoted(name)
    synced.run(f"CREATE TABLE {table} (key int PRIMARY KEY, text text)", f"INSERT INTO {table} VALUES (1, 'one')")
    synced.declare(source=table, text={"sql": f"{table}.text"}, where=f"{table}.key > 0")
    synced.apply()
    exercise(synced, table, "key", "text")


@pytest.mark.parametrize("name", ["pgvector_sync_key", "pgvector_sync_target"])
def test_a_table_named_like_our_odd_aliases_is_a_source_or_refused_with_a_reason(synced: Synced, name: str):
    from pgvector_sync.errors import Refused

    synced.run(f"CREATE TABLE {name} (key int PRIMARY KEY, text text)")
    synced.declare(source=name, text=["text"])
    with pytest.raises(Refused, match="pgvector_sync_") as refused:
        synced.apply()
    assert "ename" in refused.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "text", "key", "old",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("row_", "fingerprint", "octets", "lane", "pgvector_sync_key")),
    ],
)  # fmt: skip
def test_a_column_named_like_something_in_our_statements_can_be_read(synced: Synced, name: str):
    synced.run(f'CREATE TABLE docs (id int PRIMARY KEY, "{name}" text)', "INSERT INTO docs VALUES (1, 'one')")
    synced.declare(text=[name], where=f'"{name}" IS NOT NULL')
    synced.apply()
    exercise(synced, "docs", "id", f'"{name}"')


@pytest.mark.parametrize(
    "name", ["key", "new", *(pytest.param(name, marks=pytest.mark.slow) for name in ("text", "source_id", "lease", "tg_op"))]
)  # fmt: skip
def test_a_key_column_named_like_something_in_our_statements_can_be_the_key(synced: Synced, name: str):
    synced.run(f'CREATE TABLE docs ("{name}" int PRIMARY KEY, body text)', "INSERT INTO docs VALUES (1, 'one')")
    synced.declare()
    synced.apply()
    exercise(synced, "docs", f'"{name}"', "body")


def test_a_target_of_any_name_in_another_schema(synced: Synced):
    synced.run(
        'CREATE SCHEMA "100% Odd"',
        "CREATE TABLE docs (id int PRIMARY KEY, body text)",
        "INSERT INTO docs VALUES (1, 'one')",
    )
    synced.declare(target='"100% Odd"."The ""Vectors"" {x} %s"')
    synced.apply()
    exercise(synced, "docs", "id", "body")


def test_the_longest_name_that_fits(synced: Synced):
    name = "ж" * 26  # 52 bytes, and 10 for _embedding
    synced.run(f"CREATE TABLE {name} (id int PRIMARY KEY, body text)", f"INSERT INTO {name} VALUES (1, 'one')")
    synced.declare(source=name)
    synced.apply()
    exercise(synced, name, "id", "body")


def test_the_declaration_in_these_tests_says_what_it_is_meant_to(synced: Synced):
    synced.run('CREATE TABLE "a ""b""" (id int PRIMARY KEY, body text)')
    synced.declare(source='"a ""b"""')
    synced.plan()
    assert json.dumps('"a ""b"""') in synced.file.read_text()
