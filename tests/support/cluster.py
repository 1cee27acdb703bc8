"""Workers and beats as real processes, with a real Valkey, Postgres and endpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis

from pgvector_sync.failpoint import Failpoint
from pgvector_sync.observe.status import settled
from pgvector_sync.runtime.bootstrap import Embedders
from support.endpoint import ENVIRONMENT, Endpoint
from support.processes import Process, Processes
from support.roles import WORKER
from support.servers import Database, Valkey
from support.synced import DOCS, TEXT_LIMIT, Synced, open_synced
from support.waiting import eventually

READY = r"worker_ready"
CELERY = (sys.executable, "-m", "celery", "-A", "pgvector_sync.celery_app")
QUEUES = ("live", "bulk", "maintenance")


@dataclass
class Cluster:
    synced: Synced
    valkey: Valkey
    processes: Processes

    def worker(self, pool: str = "prefork", concurrency: int = 2, **env: str) -> Process:
        """Starts `pgvector-sync worker` and waits until it is ready."""
        process = self.processes.command("worker", "--pool", pool, "--concurrency", str(concurrency), **env)
        process.wait_for(READY)
        return process

    def insert(self, count: int, *, start: int = 1) -> None:
        self.synced.run(
            f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series({start}, {start + count - 1}) AS i"
        )

    def gets_done(self, timeout: float = 40.0) -> int:
        """Waits until the processes have left nothing but dead letters; coverage (G1) must hold all the time.

        Returns the highest number of attempts of any row that isn't a dead letter.
        """
        most = 0

        def done() -> bool:
            nonlocal most
            self.synced.covered()
            query = "SELECT coalesce(max(attempts), 0) FROM pgvector_sync.work WHERE parked_at IS NULL"
            most = max(most, self.synced.database.value(query))
            return settled(self.synced.runtime.database, None)

        eventually(done, timeout, what="nothing is left to do")
        self.synced.covered()
        assert self.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0
        return most

    def settles(self, timeout: float = 40.0) -> int:
        """Like `gets_done`; afterwards every vector must belong to its row's text."""
        most = self.gets_done(timeout)
        self.synced.exact()
        return most

    def calls(self) -> int:
        return self.synced.endpoint.calls.requests

    def in_call(self, more_than: int = 0) -> None:
        """Waits until the endpoint has received more than this number of requests."""
        eventually(lambda: self.calls() > more_than, 20, what="a request has arrived")

    def lengths(self) -> dict[str, int]:
        with redis.Redis.from_url(self.valkey.url) as client:
            return {queue: int(client.llen(queue)) for queue in QUEUES}  # type: ignore[arg-type]


@contextmanager
def open_cluster(
    database: Database,
    valkey: Valkey,
    processes: Processes,
    shared: tuple[Endpoint, Embedders],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """The usual source with its pipeline; no worker and no beat yet."""
    processes.env |= {
        "DATABASE_URL": database.url_as(WORKER),
        "REDIS_URL": valkey.url,
        **ENVIRONMENT,
        "PGVECTOR_SYNC_TEXT_LIMIT_BYTES": str(TEXT_LIMIT),
    }
    with open_synced(database, shared, processes.folder, monkeypatch) as synced:
        synced.run(DOCS)
        synced.pipeline()
        yield Cluster(synced, valkey, processes)
        synced.endpoint.heal()  # releases hanging calls, so that the processes can end


class Points:
    """A folder that arms failpoints: a process that reaches an armed point is killed or frozen there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "failpoints"
        self.folder.mkdir()
        self.env = {"PGVECTOR_SYNC_FAILPOINT": str(self.folder)}

    def arm(self, point: Failpoint, action: str = "kill") -> None:
        """Arms a point for the first process that reaches it: `kill` ends it, `stop` freezes it."""
        new = self.folder / f".{point}"
        new.write_text(action)
        new.rename(self.folder / point)  # atomic: a process never sees a partly written file

    def fired(self, point: Failpoint) -> bool:
        return not (self.folder / point).exists()

    def wait_for(self, point: Failpoint, timeout: float = 20.0) -> None:
        """Waits until a process has reached the point."""
        eventually(lambda: self.fired(point), timeout, what=f"{point} is reached")


def children(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def kill_children(process: Process) -> None:
    """Kills all children of the process, of which there must be at least one."""
    running = children(process)
    assert running, f"{process.command} has no children"
    for child in running:
        child.kill()
