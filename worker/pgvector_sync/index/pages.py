"""How pgvector lays out values, HNSW and IVFFlat indexes in pages, as read in the source of pgvector 0.8.6."""

from __future__ import annotations

import math

from pgvector_sync.model import Storage

PAGE = 8_192
USABLE = PAGE - 24 - 8
"""What tuples and line pointers share: a page without its header, and without pgvector's own 8 bytes at its end
(`HnswPageOpaqueData` in src/hnsw.h, `IvfflatPageOpaqueData` in src/ivfflat.h)."""
LINE_POINTER = 4
DEFAULT_M = 16
"""HNSW_DEFAULT_M (src/hnsw.h)."""
DEFAULT_LISTS = 100
"""IVFFLAT_DEFAULT_LISTS (src/ivfflat.h)."""
SIMULATED_ROWS = 1 << 16
"""Number of rows whose pages are filled one by one. A larger index is this many times larger."""


MAX_INDEXED_DIMENSIONS = {Storage.VECTOR: 2_000, Storage.HALFVEC: 4_000, Storage.BIT: 64_000}
"""The most dimensions that both methods accept: HNSW_MAX_DIM and IVFFLAT_MAX_DIM, twice as many for halfvec and 32
times as many for bit."""


def align8(size: int) -> int:
    """Round up as MAXALIGN does."""
    return (size + 7) & ~7


def value_bytes(storage: Storage, dimensions: int) -> int:
    """Return the bytes of one value with its header.

    pgvector's README: `4 * dimensions + 8`, `2 * dimensions + 8`, and `dimensions / 8 + 8` for bits.
    """
    if storage is Storage.VECTOR:
        return 4 * dimensions + 8
    if storage is Storage.HALFVEC:
        return 2 * dimensions + 8
    return math.ceil(dimensions / 8) + 8


def hnsw_bytes(rows: int, value: int, *, m: int = DEFAULT_M) -> int:
    """Return the size of an HNSW index over different vectors; equal ones share an element.

    `CreateGraphPages` (src/hnswbuild.c): an element of 72 bytes and its value (HNSW_ELEMENT_TUPLE_SIZE), then its
    neighbours: 4 bytes and 6 per link, for `(level + 2) * m` links (HNSW_NEIGHBOR_TUPLE_SIZE). Both go to one
    page if one page can contain them. Without the upper layers, this is PAGE / floor(USABLE / row) per row.
    """
    return PAGE * (1 + math.ceil(_scaled(rows, _hnsw_pages(min(rows, SIMULATED_ROWS), value, m))))


def _scaled(rows: int, pages: int) -> float:
    return pages * max(1.0, rows / SIMULATED_ROWS)


def _hnsw_pages(rows: int, value: int, m: int) -> int:
    element = align8(72 + value)
    at_most = USABLE - LINE_POINTER
    pages, free = 1, USABLE
    for number in range(1, rows + 1):
        neighbours = align8(4 + 6 * (_level(number, m) + 2) * m)
        together = element + LINE_POINTER + neighbours
        # PageGetFreeSpace leaves room for one line pointer
        if free - LINE_POINTER < element or (together <= at_most and free - LINE_POINTER < together):
            pages, free = pages + 1, USABLE
        free -= element + LINE_POINTER
        if free - LINE_POINTER < neighbours:
            pages, free = pages + 1, USABLE
        free -= neighbours + LINE_POINTER
    return pages


def _level(number: int, m: int) -> int:
    """The level of an element. A share of m^-n reaches level n (`HnswInitElement` in src/hnswutils.c), here evenly
    spread instead of at random. The neighbours of the highest level still fit into a page (HnswGetMaxLevel).
    """
    level = 0
    highest = (USABLE - 4 - LINE_POINTER) // 6 // m - 2
    while number % m == 0 and level < min(highest, 63):
        number //= m
        level += 1
    return level


def hnsw_build_memory(rows: int, value: int, *, m: int = DEFAULT_M) -> int:
    """Return the memory that a build needs to hold the graph: the least useful `maintenance_work_mem`.

    Structures of src/hnsw.h on a 64-bit machine: `HnswElementData` takes 128 bytes, a neighbour
    (`HnswCandidate`) 16, each layer's array 8 and a pointer of 8. There are 2m neighbours in the lowest layer,
    and m in each further one, of which an element has 1 / (m - 1) on average.
    """
    lowest = 128 + align8(value) + 16 + 2 * m * 16
    upper = (16 + m * 16) / (m - 1)
    return math.ceil(rows * (lowest + upper))


def default_lists(rows: int) -> int:
    """Return the number of lists that pgvector's README recommends: rows / 1000, above a million √rows."""
    return max(1, min(32_768, rows // 1_000 if rows <= 1_000_000 else math.isqrt(rows)))


def ivfflat_build_memory(rows: int, value: int, *, lists: int, dimensions: int) -> int:
    """Return the memory that a build needs to find the lists' centres: with less `maintenance_work_mem`, it fails.

    `InitBuildState` and `ComputeCenters` (src/ivfbuild.c), `ElkanKmeans` (src/ivfkmeans.c): 50 samples per list,
    at least 10,000, and the distances of each sample to each centre.
    """
    reserved = max(50 * lists, 10_000)
    samples = min(reserved, rows)
    vectors = (2 * lists + reserved) * align8(value)
    numbers = lists * dimensions + 3 * lists + 2 * samples + samples * lists + lists * lists
    return vectors + 4 * numbers


def ivfflat_bytes(rows: int, value: int, *, lists: int) -> int:
    """Return the size of an IVFFlat index.

    `CreateListPages` and `InsertTuples` (src/ivfbuild.c): each list has an entry of 8 bytes and its centre, and
    pages of its own, the last of which is half empty on average. A tuple has 8 bytes and the value; Postgres
    shortens the header of values below 127 bytes by 3.
    """
    stored = value - 3 if value - 3 <= 127 else value
    per_page = USABLE // (align8(8 + stored) + LINE_POINTER)
    centres_per_page = USABLE // (align8(8 + value) + LINE_POINTER)
    centres = math.ceil(lists / centres_per_page)
    return PAGE * (1 + centres + math.ceil(max(lists, rows / per_page + lists / 2)))
