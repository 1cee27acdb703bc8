"""The processes that `up` and `demo` run in a folder: embedded servers, a worker and a beat."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from pgvector_sync.errors import Refused, SyncError
from pgvector_sync.local import embedded
from pgvector_sync.local.children import BEAT_STOP_TIMEOUT, WORKER_STOP_TIMEOUT, Child, stop_all
from pgvector_sync.local.embedded import Embedded
from pgvector_sync.local.embedded.ownership import make_folder
from pgvector_sync.local.running import ProcessLock


class ChildEnded(SyncError):
    """A worker or a beat ended unexpectedly; `child` has its log."""

    def __init__(self, child: Child) -> None:
        super().__init__(f"the {child.name} ended unexpectedly (exit code {child.exit_code})")
        self.child = child


class Up:
    """The processes of a folder. One process at a time controls them; if it is killed, the next one finds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = Child("worker", folder, stop_timeout=WORKER_STOP_TIMEOUT)
        self.beat = Child("beat", folder, stop_timeout=BEAT_STOP_TIMEOUT)
        self._lock = ProcessLock(folder / "up.running")
        self._descriptor: int | None = None

    @property
    def children(self) -> tuple[Child, Child]:
        return self.worker, self.beat

    def lock(self) -> Self:
        """Lock the folder until `unlock`. Raises Refused if another process uses it or another user owns it."""
        make_folder(self.folder)
        try:
            (self.folder / ".gitignore").write_text("*\n")
            self._descriptor = self._lock.acquire()
        except OSError as error:
            raise Refused(
                f"can't write to {self.folder}: {error.strerror}", hint="change to a folder that belongs to you"
            ) from error
        if self._descriptor is None:
            process = "" if self._lock.pid is None else f" (process {self._lock.pid})"
            raise Refused(
                f"{self.folder} is in use by another `up` or `demo`{process}",
                hint="stop it first, with Ctrl-C in its terminal",
            )
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())
        return self

    def unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def stop_leftovers(self) -> bool:
        """Stop the children left over from an `up` that was killed; returns whether there were any."""
        leftovers = [child for child in self.children if child.is_running]
        stop_all(leftovers)
        return bool(leftovers)

    def start_servers(self, *, durable: bool = True) -> Embedded:
        """Start the servers. Raises Refused if the extra isn't installed or a server doesn't start."""
        return embedded.start(self.folder, durable=durable)

    def start_children(self, environment: Mapping[str, str], *, folder: Path, concurrency: int = 2) -> None:
        """Start the worker and the beat in `folder`, where they look for `.env`."""
        self.worker.start("--concurrency", str(concurrency), environment=environment, folder=folder)
        self.beat.start(environment=environment, folder=folder)

    def check(self) -> None:
        """Raise ChildEnded if a child has ended."""
        for child in self.children:
            if child.exit_code is not None:
                raise ChildEnded(child)

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop the worker and the beat, then the servers. Kills children once `hurried` returns True."""
        try:
            stop_all(self.children, hurried=hurried)
        finally:
            embedded.stop(self.folder)
