"""Something that must not cross a fork: open connections, a runtime's threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Made on the first `get` in each process, by one thread; if making it fails, the next `get` tries again.

    A child keeps its parent's value referenced and unused: letting go of it would say goodbye on the
    parent's TLS connections. It also takes a lock of its own, since the parent's may be held at the fork.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}
        self._locks: dict[int, threading.Lock] = {}

    def get(self) -> T:
        pid = os.getpid()
        if pid not in self._values:
            with self._locks.setdefault(pid, threading.Lock()):
                if pid not in self._values:
                    self._values[pid] = self._make()
        return self._values[pid]

    def pop(self) -> T | None:
        """The value of this process, if there is one; the next `get` makes another."""
        return self._values.pop(os.getpid(), None)
