"""What `up` and `demo` run in a folder: embedded servers, a worker and a beat, one set at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from pgvector_sync.errors import Refused, SyncError
from pgvector_sync.local import embedded
from pgvector_sync.local.children import BEAT_PATIENCE, WORKER_PATIENCE, Child, stop_all
from pgvector_sync.local.embedded import Embedded
from pgvector_sync.local.embedded.ownership import make_folder
from pgvector_sync.local.running import Running


class ChildEnded(SyncError):
    """A worker or a beat ended that nobody had asked to; `child` has its log."""

    def __init__(self, child: Child) -> None:
        super().__init__(f"the {child.name} ended by itself (exit code {child.exit_code})")
        self.child = child


class Up:
    """The processes of a folder: held by one process at a time, and found again if that one was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = Child("worker", folder, patience=WORKER_PATIENCE)
        self.beat = Child("beat", folder, patience=BEAT_PATIENCE)
        self._running = Running(folder / "up.running")
        self._held: int | None = None

    @property
    def children(self) -> tuple[Child, Child]:
        return self.worker, self.beat

    def take(self) -> Self:
        """Makes the folder ours until `let_go`. Raises Refused where another process or another user holds it."""
        make_folder(self.folder)
        try:
            (self.folder / ".gitignore").write_text("*\n")
            self._held = self._running.take()
        except OSError as error:
            raise Refused(
                f"can't write to {self.folder}: {error.strerror}", hint="go to a folder of your own"
            ) from error
        if self._held is None:
            who = "" if self._running.pid is None else f" (process {self._running.pid})"
            raise Refused(
                f"{self.folder} is in use by another `up` or `demo`{who}",
                hint="stop that one with Ctrl-C in its terminal first",
            )
        os.truncate(self._held, 0)
        os.write(self._held, f"{os.getpid()}\n".encode())
        return self

    def let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def stop_leftovers(self) -> bool:
        """Stops what an `up` that was killed has left; False where there was nothing."""
        left = [child for child in self.children if child.is_running]
        stop_all(left)
        return bool(left)

    def start_servers(self, *, durable: bool = True) -> Embedded:
        """Raises Refused: the extra isn't installed, or a server doesn't start."""
        return embedded.start(self.folder, durable=durable)

    def start_children(self, environment: Mapping[str, str], *, folder: Path, concurrency: int = 2) -> None:
        """Starts the worker and the beat in `folder`, where they look for `.env`."""
        self.worker.start("--concurrency", str(concurrency), environment=environment, folder=folder)
        self.beat.start(environment=environment, folder=folder)

    def check(self) -> None:
        """Raises ChildEnded where one has."""
        for child in self.children:
            if child.exit_code is not None:
                raise ChildEnded(child)

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stops worker and beat, warmly unless `hurried` says otherwise, then the servers."""
        try:
            stop_all(self.children, hurried=hurried)
        finally:
            embedded.stop(self.folder)
