"""Find the culprit by halving: a part that fails is cut until the item that makes it fail is alone.

Pure: `Parts` says which items to try next, and its caller reports what failed. One culprit among n items costs at
most 2·log₂(n) further tries, and every other item is tried successfully once.

    parts = Parts(keys)
    while part := parts.take():
        try:
            write(part)
        except Refused:
            if not parts.cut(part):
                park(part[0])

Where the items are not known beforehand, but come after a cursor, `ever_fewer` gives the sizes of pages to try.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
CURSOR_FACTOR = 8
"""By how much a page shrinks. Behind a cursor only one culprit at a time is looked for, so few sizes are tried."""


class Parts(Generic[T]):
    """Items that are still to be tried, in parts; at first in one."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._parts: deque[list[T]] = deque()
        self._put(list(items), last=False)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def __iter__(self) -> Iterator[T]:
        """All items that are still to be tried."""
        return (item for part in self._parts for item in part)

    def take(self, most: int | None = None) -> list[T]:
        """Take out the next part, or its first `most` items. Empty if there is none."""
        if not self._parts:
            return []
        part = self._parts.popleft()
        if most is not None and len(part) > most:
            self._put(part[most:], last=False)
            part = part[:most]
        return part

    def cut(self, part: Sequence[T], *, size: int | None = None, last: bool = False) -> bool:
        """After `part` failed: try it again in parts of `size` items (default: halves), next or after all others.

        False, and nothing is put back, if it is a single item: the culprit.
        """
        if len(part) <= 1:
            return False
        size = math.ceil(len(part) / 2) if size is None else min(size, len(part) - 1)
        smaller = [part[start : start + size] for start in range(0, len(part), size)]
        for some in smaller if last else reversed(smaller):
            self._put(some, last=last)
        return True

    def put_back(self, part: Sequence[T], *, last: bool = False) -> None:
        """Try it again as it is, next or after all others."""
        self._put(part, last=last)

    def _put(self, part: Sequence[T], *, last: bool) -> None:
        if not part:
            return
        if last:
            self._parts.append(list(part))
        else:
            self._parts.appendleft(list(part))


def fewer(size: int, *, factor: int = CURSOR_FACTOR) -> int:
    """The next smaller size of a page that failed, at least 1."""
    return max(1, size // factor)


def ever_fewer(size: int, *, factor: int = CURSOR_FACTOR) -> Iterator[int]:
    """`size`, and smaller and smaller ones down to 1: if even that page fails, its one row is the culprit."""
    while size > 1:
        yield size
        size = fewer(size, factor=factor)
    yield 1
