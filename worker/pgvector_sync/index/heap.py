"""How Postgres lays out a target: its rows, the vectors that are stored out of line, and its B-tree indexes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pgvector_sync.index.pages import LINE_POINTER, PAGE, align8

_USABLE = PAGE - 24
_TOAST_THRESHOLD = 2_032
"""TOAST_TUPLE_THRESHOLD: a longer row is shortened, its longest value first."""
_CHUNK = 1_996
"""TOAST_MAX_CHUNK_SIZE."""
_TOAST_POINTER = 18
_HEADER = 24
"""With the bitmap of NULLs: `chunk` is NULL."""
_ASCENDING = 0.9
"""How full the leaves of a B-tree are whose keys arrive in order (its default fill factor)."""
_RANDOM = math.log(2)
"""How full the leaves of a B-tree are on average whose keys arrive in any order."""
_ROWS = 4_096
_FINGERPRINT = 33
"""32 bytes and a short header."""


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A key column: its width in bytes, with the header, and its alignment."""

    width: int
    alignment: int
    ascending: bool = True
    """Whether new keys are the largest, so that their index stays dense."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """The size of a target in bytes."""

    heap: int
    toast: int
    """Vectors that are stored out of line, with their index; 0 if they are stored in the rows."""
    keys: int
    """The primary key, and the index on fingerprints."""
    row: int
    """Bytes of one row in the heap."""
    out_of_line: bool

    @property
    def total(self) -> int:
        return self.heap + self.toast + self.keys


def table_size(rows: int, value: int, *, key: Sequence[KeyPart], model: int) -> TableSize:
    """Return the size of a freshly loaded target with one vector per row (`create` in sql/queries/target_ddl.sql).

    value: bytes of a vector with its header. pgvector's types have `STORAGE = external` (sql/vector.sql): a vector
        is never compressed, and stored out of line if the row is longer than 2,032 bytes.
    model: characters of the model's name.
    """
    inline = _row(key, value, model)
    out_of_line = inline > _TOAST_THRESHOLD
    row = _row(key, _TOAST_POINTER, model, out_of_line=True) if out_of_line else inline
    heap = _pages([align8(row)], rows)
    toast = 0
    if out_of_line:
        chunks = _chunks(value)
        toast = _pages([align8(_HEADER + 12 + chunk) for chunk in chunks], rows)
        toast += _btree(rows * len(chunks), 8, filled=_ASCENDING)
    offset = 0
    for part in key:
        offset = _aligned(offset, part.alignment) + part.width
    primary = _aligned(offset, 4) + 4
    keys = _btree(rows, primary, filled=_ASCENDING if key[0].ascending else _RANDOM)
    keys += _btree(rows, _FINGERPRINT, filled=_RANDOM)
    return TableSize(heap, toast, keys, row, out_of_line)


def _row(key: Sequence[KeyPart], value: int, model: int, *, out_of_line: bool = False) -> int:
    """Length of a row whose columns are key, chunk_no, embedding, fingerprint, model and embedded_at."""
    offset = _HEADER
    for part in key:
        offset = _aligned(offset, part.alignment) + part.width
    offset = _aligned(offset, 4) + 4
    if out_of_line:
        offset += value
    elif value - 3 <= 127:
        offset += value - 3  # the short header needs no alignment
    else:
        offset = _aligned(offset, 4) + value
    offset += _FINGERPRINT
    offset = offset + 1 + model if model < 127 else _aligned(offset, 4) + 4 + model
    return _aligned(offset, 8) + 8


def _chunks(value: int) -> list[int]:
    """Lengths of the pieces of a value; its header isn't stored."""
    whole, rest = divmod(value - 4, _CHUNK)
    return [_CHUNK] * whole + ([rest] if rest else [])


def _pages(tuples: Sequence[int], rows: int) -> int:
    """Bytes of a heap that is filled page by page with these tuples per row."""
    simulated = min(rows, _ROWS)
    pages, free = 0, 0
    for _ in range(simulated):
        for size in tuples:
            if free < size + LINE_POINTER:
                pages, free = pages + 1, _USABLE
            free -= size + LINE_POINTER
    return math.ceil(pages * rows / simulated) * PAGE if rows else 0


def _btree(entries: int, key: int, *, filled: float) -> int:
    """Bytes of a B-tree: leaves, what points to them, and its first page."""
    entry = align8(8 + key) + LINE_POINTER
    per_page = (PAGE - 24 - 16) / entry
    pages, level = 1, float(entries)
    while level > 1:
        level = math.ceil(level / (per_page * filled))
        pages += int(level)
    return pages * PAGE


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
