"""Predicted sizes are those of real tables and indexes, and the predicted memory is what a build needs."""

from __future__ import annotations

import re

import psycopg
import pytest

from pgvector_sync.index.capacity import Wanted, storages
from pgvector_sync.index.heap import KeyPart, TableSize, table_size
from pgvector_sync.index.pages import (
    PAGE,
    Storage,
    hnsw_build_memory,
    hnsw_bytes,
    ivfflat_bytes,
    value_bytes,
)
from support.synced import DOCS, Synced

BIGINT = (KeyPart(8, 8),)
TOLERANCE = 0.05
METHODS = {Storage.VECTOR: "vector_l2_ops", Storage.HALFVEC: "halfvec_l2_ops", Storage.BIT: "bit_hamming_ops"}
RANDOM = "ARRAY(SELECT random() - 0.5 + {row} * 0 FROM generate_series(1, {dimensions}))::vector({dimensions})"


def fill(synced: Synced, storage: Storage, dimensions: int, rows: int) -> None:
    """Stores random vectors, as a backfill does, in a table that `apply` has created."""
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    value = RANDOM.format(row="n", dimensions=dimensions)
    if storage is Storage.BIT:
        value = f"binary_quantize({value})::bit({dimensions})"
    synced.run(
        f"ALTER TABLE docs_embedding ALTER COLUMN embedding TYPE {storage}({dimensions}) "
        f"USING NULL::{storage}({dimensions})",
        "INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT n, {value}, sha256(n::text::bytea), 'text-embedding-3-small', now() "
        f"FROM generate_series(1, {rows}) n",
    )


def build(synced: Synced, method: str, storage: Storage, *, memory: str = "1GB", options: str = "") -> list[str]:
    """Builds an index; returns the server's notices."""
    notices: list[str] = []
    with synced.database.connect() as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute(f"SET maintenance_work_mem = '{memory}'")
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute(
            f"CREATE INDEX built ON docs_embedding USING {method} (embedding {METHODS[storage]}) {options}"
        )
    return notices


def size_of(synced: Synced, expression: str) -> int:
    with synced.database.connect() as connection:
        row = connection.execute(f"SELECT {expression}").fetchone()
    assert row is not None
    return int(row[0])


def near(predicted: int, real: int, *, pages: float = 0) -> None:
    """pages: what chance may add or take."""
    tolerance = TOLERANCE * real + pages * PAGE
    assert predicted == pytest.approx(real, abs=tolerance), f"{predicted:,} predicted, {real:,} real"


CASES = [
    pytest.param(storage, dimensions, id=f"{storage}-{dimensions}", marks=marks)
    for storage in Storage
    for dimensions, marks in ((384, ()), (768, pytest.mark.slow), (1536, pytest.mark.slow))
]


@pytest.mark.parametrize(("storage", "dimensions"), CASES)
def test_tables_and_indexes_have_the_predicted_size(synced: Synced, storage: Storage, dimensions: int) -> None:
    rows = 4_000
    fill(synced, storage, dimensions, rows)
    value = value_bytes(storage, dimensions)
    table = table_size(rows, value, key=BIGINT, model=len("text-embedding-3-small"))
    assert_table(synced, table)
    build(synced, "hnsw", storage, options="WITH (ef_construction = 8, m = 4)")
    near(hnsw_bytes(rows, value, m=4), size_of(synced, "pg_relation_size('built')"))
    synced.run("DROP INDEX built")
    build(synced, "ivfflat", storage, options="WITH (lists = 4)")
    real = size_of(synced, "pg_relation_size('built')")
    near(ivfflat_bytes(rows, value, lists=4), real, pages=2)  # the last page of each of the four lists


def assert_table(synced: Synced, table: TableSize) -> None:
    near(table.heap, size_of(synced, "pg_relation_size('docs_embedding')"))
    toast = "(SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'docs_embedding'::regclass)"
    if table.out_of_line:
        near(table.toast, size_of(synced, toast))
    else:
        assert size_of(synced, toast) <= 3 * 8192
    near(table.total, size_of(synced, "pg_total_relation_size('docs_embedding')"))


@pytest.mark.slow
@pytest.mark.parametrize("m", [2, 16, 64])
def test_links_of_all_layers_are_counted(synced: Synced, m: int) -> None:
    fill(synced, Storage.VECTOR, 64, 6_000)
    build(synced, "hnsw", Storage.VECTOR, options=f"WITH (ef_construction = {2 * m}, m = {m})")
    near(hnsw_bytes(6_000, value_bytes(Storage.VECTOR, 64), m=m), size_of(synced, "pg_relation_size('built')"))


@pytest.mark.parametrize("dimensions", [1024, 1536])
def test_a_page_holds_one_vector_of_1024_dimensions_as_of_1536(dimensions: int) -> None:
    assert hnsw_bytes(10_000, value_bytes(Storage.VECTOR, dimensions)) == 8192 * 10_001


def test_an_element_that_leaves_no_room_for_its_links_takes_two_pages(synced: Synced) -> None:
    fill(synced, Storage.VECTOR, 2_000, 200)
    build(synced, "hnsw", Storage.VECTOR, options="WITH (ef_construction = 32)")
    near(hnsw_bytes(200, value_bytes(Storage.VECTOR, 2_000)), size_of(synced, "pg_relation_size('built')"))


def test_the_graph_fits_into_the_predicted_memory_and_no_more(synced: Synced) -> None:
    fill(synced, Storage.VECTOR, 768, 4_000)
    notices = build(synced, "hnsw", Storage.VECTOR, memory="8MB", options="WITH (ef_construction = 8, m = 4)")
    [full] = [found for notice in notices if (found := re.search(r"work_mem after (\d+) tuples", notice))]
    predicted = hnsw_build_memory(int(full[1]), value_bytes(Storage.VECTOR, 768), m=4)
    assert predicted == pytest.approx(8 * 1024 * 1024, rel=0.1)


def test_postgres_agrees_on_the_size_of_a_value(synced: Synced) -> None:
    with synced.database.connect() as connection:
        for storage in Storage:
            assert column_size(connection, storage) == value_bytes(storage, 100)


def column_size(connection: psycopg.Connection, storage: Storage) -> int:
    value = {
        Storage.VECTOR: "array_fill(1, ARRAY[100])::vector",
        Storage.HALFVEC: "array_fill(1, ARRAY[100])::vector::halfvec",
        Storage.BIT: "repeat('1', 100)::bit(100)",
    }[storage]
    row = connection.execute(f"SELECT pg_column_size({value})").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(("storage", "dimensions"), [(Storage.HALFVEC, 384), (Storage.VECTOR, 768)])
def test_the_wal_of_loading_and_indexing_is_predicted(synced: Synced, storage: Storage, dimensions: int) -> None:
    synced.run("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        start = size_of(synced, "pg_current_wal_insert_lsn() - '0/0'")
        fill(synced, storage, dimensions, 3_000)
        build(synced, "hnsw", storage, options="WITH (ef_construction = 32)")
        real = size_of(synced, "pg_current_wal_insert_lsn() - '0/0'") - start
    finally:
        synced.run("ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
    wanted = Wanted(3_000, dimensions, 16, BIGINT, "text-embedding-3-small", storage)
    [plan] = [each for each in storages(wanted) if each.storage == storage]
    assert plan.wal_bytes == pytest.approx(real, rel=0.15)
