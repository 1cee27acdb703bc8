"""What a pipeline takes at another number of rows: table, indexes, WAL, memory, time and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from pgvector_sync.index.heap import KeyPart, TableSize, table_size
from pgvector_sync.index.pages import (
    MAX_INDEXED_DIMENSIONS,
    default_lists,
    hnsw_build_memory,
    hnsw_bytes,
    ivfflat_bytes,
    value_bytes,
)
from pgvector_sync.model import Storage

_ALIGNMENT = {"c": 1, "s": 2, "i": 4, "d": 8}
_ASCENDING = ("int2", "int4", "int8", "date", "timestamp", "timestamptz", "numeric")
"""Types of keys that usually come from a sequence or a clock."""
_UNKNOWN_WIDTH = 16
_WAL_PER_TUPLE = 50
"""A record's header (24 bytes), the block it concerns (20) and what the access method says, without the tuple."""


@dataclass(frozen=True, slots=True)
class Build:
    """A measured build of an HNSW index."""

    rows: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be planned."""

    rows: int
    dimensions: int
    m: int
    key: tuple[KeyPart, ...]
    model: str
    column: Storage
    """How the pipeline stores vectors; `bit` keeps them so."""
    build: Build | None = None


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """What one way of storing takes. Indexes are None if they can't have so many dimensions."""

    storage: str
    value_bytes: int
    """One indexed vector."""
    table_bytes: int
    toast_bytes: int
    """Vectors that are stored out of line, with their index."""
    key_index_bytes: int
    """The primary key, and the index on fingerprints."""
    hnsw_bytes: int | None
    hnsw_bytes_per_row: float | None
    ivfflat_bytes: int | None
    total_bytes: int
    """The table with all of the above, and the HNSW index if there can be one."""
    wal_bytes: int
    """Loading the rows, then building the HNSW index."""
    build_memory_bytes: int | None
    """The `maintenance_work_mem` that holds the graph of an HNSW build."""
    build_time: timedelta | None
    """Extrapolated; None without a measured build."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pipeline takes at a number of rows."""

    pipeline: str
    rows: int
    dimensions: int
    m: int
    lists: int
    """The number of lists assumed for IVFFlat."""
    tokens_per_row: float | None
    """The mean of a sample; None if the source has no text to sample."""
    usd: float | None
    """The price of embedding all rows; None if the price or the texts are unknown."""
    storages: tuple[StoragePlan, ...]


def key_part(length: int, alignment: str, type_name: str, average_width: int | None) -> KeyPart:
    """Return a key column by its entry in pg_type, and its average width for a type of variable length."""
    if length > 0:
        return KeyPart(length, _ALIGNMENT[alignment], ascending=type_name in _ASCENDING)
    width = average_width or _UNKNOWN_WIDTH  # includes the short header, which isn't aligned
    return KeyPart(width, 1 if width <= 127 else 4, ascending=type_name in _ASCENDING)


def storages(wanted: Wanted) -> tuple[StoragePlan, ...]:
    """Return what each way of storing takes."""
    return tuple(_plan(wanted, storage) for storage in Storage)


def _plan(wanted: Wanted, storage: Storage) -> StoragePlan:
    rows, m = wanted.rows, wanted.m
    indexed = value_bytes(storage, wanted.dimensions)
    column = value_bytes(wanted.column if storage is Storage.BIT else storage, wanted.dimensions)
    table = table_size(rows, column, key=wanted.key, model=len(wanted.model))
    fits = wanted.dimensions <= MAX_INDEXED_DIMENSIONS[storage]
    hnsw = hnsw_bytes(rows, indexed, m=m) if fits else None
    ivfflat = ivfflat_bytes(rows, indexed, lists=default_lists(rows)) if fits else None
    return StoragePlan(
        storage=storage.value,
        value_bytes=indexed,
        table_bytes=table.heap,
        toast_bytes=table.toast,
        key_index_bytes=table.keys,
        hnsw_bytes=hnsw,
        hnsw_bytes_per_row=None if hnsw is None else round(hnsw / rows, 1),
        ivfflat_bytes=ivfflat,
        total_bytes=table.total + (hnsw or 0),
        wal_bytes=_wal(rows, column, table) + (hnsw or 0),
        build_memory_bytes=hnsw_build_memory(rows, indexed, m=m) if fits else None,
        build_time=None if hnsw is None or wanted.build is None else build_time(rows, wanted.build),
    )


def _wal(rows: int, value: int, table: TableSize) -> int:
    """Return the WAL of loading rows: one record per row, piece of a vector, and entry of a B-tree.

    A build of an index writes its pages as they are (`log_newpage_range` in pgvector's src/hnswbuild.c), so it
    adds its size.
    """
    pieces = math.ceil((value - 4) / 1_996) if table.out_of_line else 0
    entries = 2 + pieces
    tuples = table.row + (value + pieces * 36 if pieces else 0)
    return rows * (tuples + _WAL_PER_TUPLE * (1 + pieces) + entries * (_WAL_PER_TUPLE + 40))


def build_time(rows: int, build: Build) -> timedelta:
    """Extrapolate the time of an HNSW build: each insertion searches a graph whose depth grows as log(rows)."""
    return build.took * (rows * math.log(max(rows, 2)) / (build.rows * math.log(max(build.rows, 2))))


def mean_cost(rows: int, *, sampled: int, tokens: int, price: Decimal | None) -> tuple[float | None, float | None]:
    """Return tokens per row and the cost of `rows` rows, from an estimate of `sampled` rows.

    price: of a million tokens. The estimate's own cost is rounded, and nothing at all for a few rows.
    """
    if not sampled:
        return None, None
    mean = tokens / sampled
    return round(mean, 1), None if price is None else round(mean * rows / 1_000_000 * float(price), 2)


def key_parts(widths: Sequence[tuple[int, str, str, int | None]]) -> tuple[KeyPart, ...]:
    """Return the key columns, each as length, alignment, type and average width."""
    return tuple(key_part(*width) for width in widths)
