"""The number of rows per write transaction, and what it removes."""

from datetime import timedelta

from pgvector_sync.runtime.slice_size import LARGEST_SLICE_ROWS, SLICE_TIME, SliceSize
from support.steps import Steps


def settled(per_row: timedelta, *, rounds: int = 40) -> int:
    size = SliceSize()
    for _ in range(rounds):
        size.learn(size.rows, per_row * size.rows)
    return size.rows


def test_slices_grow_where_writing_is_cheap():
    assert settled(timedelta(microseconds=10)) == LARGEST_SLICE_ROWS


def test_slices_shrink_to_one_row_where_the_index_is_slow():
    assert settled(timedelta(milliseconds=50)) == 1


def test_slices_settle_where_writing_takes_about_the_slice_time():
    rows = settled(timedelta(milliseconds=1))
    assert SLICE_TIME / 2 <= rows * timedelta(milliseconds=1) <= SLICE_TIME


def test_one_slow_write_at_most_halves_the_slice():
    size = SliceSize(rows=200)
    size.learn(200, timedelta(seconds=10))
    assert size.rows == 100


def test_the_rest_of_a_batch_shrinks_the_slice_only_if_it_took_too_long():
    size = SliceSize(rows=200)
    size.learn(6, SLICE_TIME / 5)
    assert size.rows == 200
    size.learn(6, SLICE_TIME * 2)
    assert size.rows == 100


def test_a_large_slice_after_a_small_one_is_reached_by_doubling():
    size = SliceSize(rows=4)
    size.learn(4, timedelta(0))
    assert size.rows == 8


def test_a_cancelled_write_goes_on_with_far_fewer_rows_and_reaches_one():
    size = SliceSize(rows=512)
    size.cancelled(512)
    assert size.rows == 64
    size.cancelled(64)
    size.cancelled(8)
    size.cancelled(2)
    assert size.rows == 1


def test_a_cancelled_rest_of_a_batch_tells_of_its_own_size():
    size = SliceSize(rows=512)
    size.cancelled(16)
    assert size.rows == 2


def test_a_write_removes_the_chunks_that_its_rows_no_longer_have(docs: Steps) -> None:
    docs.insert(_1="one", _2="two", _3="three")
    docs.synced.sync()
    docs.synced.run(
        "INSERT INTO docs_embedding SELECT id, further, chunk, embedding, fingerprint, model, embedded_at"
        " FROM docs_embedding CROSS JOIN generate_series(1, 2) AS further WHERE id < 3"
    )
    docs.change(1, "one again")
    docs.drain()
    docs.process()
    with docs.synced.database.connect() as connection:
        chunks = connection.execute("SELECT id, count(*) FROM docs_embedding GROUP BY id ORDER BY id").fetchall()
    assert chunks == [(1, 1), (2, 3), (3, 1)]
