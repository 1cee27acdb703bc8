"""What no pipeline reads costs nothing (G6)."""

from __future__ import annotations

import psycopg
import pytest

from support.synced import DOCS, Synced

LONG = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 6400) g)"
"""About 200 kB that don't compress away: stored out of line."""


def toast_blocks(connection: psycopg.Connection) -> int:
    """Return the number of TOAST blocks that any session has read since the table was created."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT coalesce(toast_blks_read + toast_blks_hit + tidx_blks_read + tidx_blks_hit, 0)"
        " FROM pg_statio_user_tables WHERE relname = 'docs'"
    ).fetchone()
    return int(row[0])


@pytest.fixture
def long(synced: Synced) -> Synced:
    """A row with a toasted text, tracked but not embedded, since it is over the limit."""
    synced.run(DOCS, f"INSERT INTO docs VALUES (1, {LONG}, 'n')")
    synced.declare()
    synced.apply()
    synced.settle()
    return synced


def test_an_untracked_update_of_a_row_with_a_toasted_text_writes_nothing_to_the_outbox(long: Synced):
    assert long.dead() == [([1], "too_large")]
    long.run("UPDATE docs SET note = 'other'", "UPDATE docs SET note = repeat('long note', 10000)")
    assert long.events() == []
    long.run("UPDATE docs SET body = body || '!'")
    assert long.events() == [[1]]


def test_an_untracked_update_does_not_detoast_the_tracked_text(long: Synced):
    with long.database.connect() as connection:
        connection.execute("SET stats_fetch_consistency = none")
        before = toast_blocks(connection)
        connection.execute("SELECT md5(body) FROM docs").fetchall()
        read_once = toast_blocks(connection) - before
        assert read_once > 20  # so the measure works
        before = toast_blocks(connection)
        for number in range(5):
            connection.execute("UPDATE docs SET note = %s", [f"note {number}"])
        touched = toast_blocks(connection) - before
    if long.database.server.version >= 17:
        assert touched == 0
    else:
        assert long.events() == []  # there pg_column_toast_chunk_id is missing: the texts are compared


def test_a_toasted_text_that_is_rewritten_with_the_same_bytes_is_no_change(long: Synced):
    long.run("UPDATE docs SET body = body || ''")
    assert long.events() == []


@pytest.mark.parametrize("change", ["body = 'short'", "body = NULL", "body = reverse(body)"])
def test_every_change_of_a_toasted_text_is_captured(long: Synced, change: str):
    long.run(f"UPDATE docs SET {change}")
    assert long.events() == [[1]]


@pytest.mark.parametrize("before", ["NULL", "'short'", "repeat('compressible ', 300)"])
def test_a_text_that_becomes_toasted_is_captured(synced: Synced, before: str):
    synced.run(DOCS, f"INSERT INTO docs VALUES (1, {before})")
    synced.declare()
    synced.apply()
    synced.settle()
    synced.run(f"UPDATE docs SET body = {LONG}")
    assert synced.events() == [[1]]


def test_writing_vectors_leaves_no_event(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs SELECT g, 'row ' || g FROM generate_series(1, 20) g")
    synced.pipeline()
    assert synced.events() == []
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.work") == 0


def test_a_column_that_the_where_reads_is_tracked(synced: Synced):
    synced.run("CREATE TABLE docs (id int PRIMARY KEY, body text, live boolean, note text)")
    synced.run("INSERT INTO docs VALUES (1, 'one', false), (2, 'two', NULL), (3, 'three', true)")
    synced.pipeline(where="live")
    assert set(synced.vectors()) == {(3,)}
    synced.run("UPDATE docs SET live = NOT coalesce(live, false)")
    assert synced.events() == [[1], [2], [3]]
    synced.sync()
    assert set(synced.vectors()) == {(1,), (2,)}
