"""Vectors packed into one parameter arrive as Postgres would read them one by one."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from pgvector_sync.database import Database
from pgvector_sync.database.loaders import load_json
from pgvector_sync.database.packing import PackedBytes, PackedKeys, PackedVectors
from support.servers import Database as Server

EXTREMES = [0.0, -0.0, 1.0, -1.5, float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny), 1e-45]


@pytest.mark.parametrize("count", [1, 3, 512])
def test_every_number_of_every_vector_arrives_unchanged_and_in_order(database: Server, count: int) -> None:
    random = np.random.default_rng(7)
    vectors = [np.array([*EXTREMES, *random.normal(size=5)], dtype=np.float32) for _ in range(count)]
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    with Database(database.url, lock_timeout=timedelta(seconds=1)) as pool, pool.transaction() as connection:
        query = f"SELECT v FROM unnest(%(vectors)b::{pool.vector_schema}.vector[]) WITH ORDINALITY AS u (v, n) ORDER BY n"
        rows = connection.cursor(binary=True).execute(query, {"vectors": PackedVectors(vectors)}).fetchall()
    assert np.array_equal([row["v"].to_numpy() for row in rows], vectors)
    assert len(rows) == count


def test_no_vectors_are_an_empty_array(database: Server) -> None:
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    with Database(database.url, lock_timeout=timedelta(seconds=1)) as pool, pool.transaction() as connection:
        query = f"SELECT cardinality(%(vectors)b::{pool.vector_schema}.vector[]) AS count"
        row = connection.execute(query, {"vectors": PackedVectors([])}).fetchone()
    assert row == {"count": 0}


KEYS = [(1,), (-(2**63), "a"), ("", 'quotes " and \\ and \n and é and 😀'), (10**30, "\u0001")]


@pytest.mark.parametrize("keys", [[], KEYS[:1], KEYS, KEYS * 200], ids=["none", "one", "several", "many"])
def test_keys_arrive_as_json_arrays_in_order(database: Server, keys: list[tuple[int | str, ...]]) -> None:
    with Database(database.url, lock_timeout=timedelta(seconds=1)) as pool, pool.transaction() as connection:
        query = "SELECT k AS key FROM unnest(%(keys)s::jsonb[]) WITH ORDINALITY AS u (k, n) ORDER BY n"
        rows = connection.execute(query, {"keys": PackedKeys(keys)}).fetchall()
    assert [tuple(row["key"]) for row in rows] == keys


@pytest.mark.parametrize(
    "values", [[], [b""], [b"\x00\xff'\\", None, b"a" * 300], [None]], ids=["none", "empty", "several", "null"]
)
def test_byte_strings_arrive_unchanged_and_in_order(database: Server, values: list[bytes | None]) -> None:
    with Database(database.url, lock_timeout=timedelta(seconds=1)) as pool, pool.transaction() as connection:
        query = "SELECT b FROM unnest(%(values)s::bytea[]) WITH ORDINALITY AS u (b, n) ORDER BY n"
        rows = connection.execute(query, {"values": PackedBytes(values)}).fetchall()
    assert [row["b"] for row in rows] == values


@pytest.mark.parametrize("text", ['[1, "a"]', ' {"a": 1}', '{"a": 1}\n', "null", "12", '"a"'])
def test_json_is_read_with_and_without_spaces_around_it(text: str) -> None:
    assert load_json(text) == load_json(text.encode()) == json.loads(text)
