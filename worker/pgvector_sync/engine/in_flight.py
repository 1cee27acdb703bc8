"""Batches in flight, each in a thread of its own, for a process that goes on taking turns meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import timedelta
from threading import Thread

from pgvector_sync.batch import Outcome, process
from pgvector_sync.model import Lane
from pgvector_sync.runtime import Runtime

HURRY_EVERY = timedelta(milliseconds=100)
"""How often to ask whether to wait for batches any longer."""


class InFlight:
    """The batches of one process. Only the thread that created it uses it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._batches: dict[Future[Outcome | None], str] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def of(self, pipeline: str) -> int:
        """Return the number of a pipeline's batches."""
        return sum(name == pipeline for name in self._batches.values())

    def start(self, pipeline: str, lane: Lane, *, share: int) -> None:
        """Process a batch. The parameters are those of `process`.

        The thread is a daemon: a process that must end at once doesn't wait for a provider. The leases of its
        batches end by themselves.
        """
        batch: Future[Outcome | None] = Future()

        def run() -> None:
            try:
                batch.set_result(process(self._runtime, pipeline, lane, share=share))
            except BaseException as error:  # noqa: BLE001 - `ended` raises it
                batch.set_exception(error)

        self._batches[batch] = pipeline
        Thread(target=run, name=f"pgvector-sync-batch-{pipeline}", daemon=True).start()

    def ended(self) -> Iterator[tuple[str, Outcome | None]]:
        """Yield pipeline and outcome of batches that have ended. Raises what a batch raised.

        The batches that are left are yielded by the next call.
        """
        for batch in [batch for batch in self._batches if batch.done()]:
            yield self._batches.pop(batch), batch.result()

    def wait(self, limit: timedelta) -> None:
        """Wait until a batch has ended, or until the time limit."""
        wait(self._batches, limit.total_seconds(), FIRST_COMPLETED)

    def finish(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Wait until all batches have ended or `hurried` returns True."""
        while not hurried() and not all(batch.done() for batch in self._batches):
            wait(self._batches, HURRY_EVERY.total_seconds())
