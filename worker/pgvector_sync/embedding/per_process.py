"""Holds a value that must not be shared across a fork, such as connections or threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value per process, created by one thread at the first `get`. If that fails, the next `get` tries again.

    A child keeps a reference to its parent's value and doesn't use it: finalizing it would close the parent's TLS
    connections. It also uses a lock of its own, since the parent's may be locked during the fork.
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
        """Remove and return the value of this process, if there is one. The next `get` creates another."""
        return self._values.pop(os.getpid(), None)
