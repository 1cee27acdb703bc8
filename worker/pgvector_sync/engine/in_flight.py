"""What is in flight, each in a thread of its own, for a process that goes on taking turns meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import timedelta
from threading import Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")
HURRY_EVERY = timedelta(milliseconds=100)
"""How often to ask whether to wait any longer."""


class InFlight(Generic[T]):
    """The batches, or the walks of runs, of one process. Only the thread that created it uses it."""

    def __init__(self, kind: str) -> None:
        """`kind` is part of the threads' names."""
        self._kind = kind
        self._names: dict[Future[T], str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def of(self, name: str) -> int:
        """Return how many were started with this name and are in flight."""
        return sum(each == name for each in self._names.values())

    def start(self, name: str, action: Callable[[], T]) -> None:
        """Call `action` in a thread.

        The thread is a daemon: a process that must end at once doesn't wait for a provider. Leases that are still
        held end by themselves.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(action())
            except BaseException as error:  # noqa: BLE001 - `ended` raises it
                future.set_exception(error)

        self._names[future] = name
        Thread(target=run, name=f"pgvector-sync-{self._kind}-{name}", daemon=True).start()

    def ended(self) -> Iterator[tuple[str, T]]:
        """Yield name and result of what has ended. Raises what an action raised.

        What is left then is yielded by the next call.
        """
        for future in [future for future in self._names if future.done()]:
            yield self._names.pop(future), future.result()

    @property
    def futures(self) -> list[Future[T]]:
        return list(self._names)


def wait_for_any(*groups: InFlight[Any], limit: timedelta) -> None:
    """Wait until anything in flight has ended, or until the time limit."""
    wait([future for group in groups for future in group.futures], limit.total_seconds(), FIRST_COMPLETED)


def wait_for_all(*groups: InFlight[Any], hurried: Callable[[], bool] = lambda: False) -> None:
    """Wait until everything in flight has ended or `hurried` returns True."""
    futures = [future for group in groups for future in group.futures]
    while not hurried() and not all(future.done() for future in futures):
        wait(futures, HURRY_EVERY.total_seconds())
