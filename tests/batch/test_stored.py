"""Statements that read a target join one relation, `stored`, which may be a view."""

from __future__ import annotations

import re
from collections.abc import Iterator

from psycopg import sql

from pgvector_sync.database.statements import sql_folder
from pgvector_sync.store import rows, source, stored
from pgvector_sync.store.shape import Shape
from support.steps import Steps

PHYSICAL = re.compile(
    r"(?i)INSERT INTO \{target\}|DELETE FROM (ONLY )?\{target\}|(LOCK|ALTER|CREATE|COMMENT ON|DROP) TABLE (IF EXISTS )?\{target\}"
    r"|CREATE INDEX (CONCURRENTLY )?(\{index_name\} )?ON \{target\}|FOR UPDATE|WHERE false|LIMIT 0|TABLESAMPLE|ctid"
)
"""What only a table has: its rows are written or locked, or its definition changes."""
NOT_YET_OURS = "target_table"
"""A file about the table that stands at a target's name, whether it holds vectors of ours or not."""


def statements() -> Iterator[tuple[str, str]]:
    """`file.name` and text of all statements."""
    for path in sorted((sql_folder() / "queries").glob("*.sql")):
        for part in re.split(r"(?m)^(?=-- (?:name|part): )", path.read_text("utf-8"))[1:]:
            name = re.match(r"-- \w+: (\w+)", part)
            assert name is not None
            yield f"{path.stem}.{name[1]}", part


def test_only_statements_that_lock_or_write_name_the_target_itself() -> None:
    reading = {
        name
        for name, text in statements()
        if "{target}" in text and not PHYSICAL.search(text) and name.partition(".")[0] != NOT_YET_OURS
    }
    assert reading == {"stored.relation", "partitions.remember_if_empty"}


def shown_as_view(docs: Steps) -> Shape:
    """What is stored, read through a view that hides one row."""
    docs.synced.run(
        "CREATE VIEW shown AS SELECT * FROM docs_embedding WHERE id <> 3", "GRANT SELECT ON shown TO PUBLIC"
    )
    shape = docs.synced.shape()
    shape.composed[stored.relation.__wrapped__] = sql.SQL('"public"."shown" AS pgvector_sync_stored').format()  # type: ignore[attr-defined]
    return shape


def test_what_is_stored_may_be_a_view(docs: Steps) -> None:
    docs.insert(_1="one", _2="two", _3="three")
    docs.synced.sync()
    keys = [(1,), (2,), (3,)]
    shape = shown_as_view(docs)
    with docs.runtime.database.transaction() as connection:
        read = {row.key: row for row in rows.read(connection, shape, keys, text_limit=1_000)}
        look = rows.look(connection, shape, keys, text_limit=1_000)
        prints = [row.fingerprint for row in read.values() if row.fingerprint]
        page = rows.page(connection, shape, None, limit=10, text_limit=1_000, conditions=[source.is_stale(shape)])
        known, reusable = rows.known(connection, shape, prints), rows.reusable(connection, shape, prints)
    hidden = read[3,]
    assert [read[key].stored_fingerprint == read[key].fingerprint for key in keys] == [True, True, False]
    assert (hidden.stored_fingerprint, look[3,].stored_fingerprint) == (None, None)
    assert page == [((1,), False), ((2,), False), ((3,), True)]
    assert known == set(reusable) == set(prints) - {hidden.fingerprint}
