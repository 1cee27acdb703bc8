"""Workers and beats as real processes, on a real Valkey, a real Postgres and a real endpoint."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import psutil
import redis

from pgvector_sync.operate.status import settled
from processes import Process, Processes
from servers import Valkey
from synced import Synced
from waiting import eventually

READY = r"worker_ready"
CELERY = (sys.executable, "-m", "celery", "-A", "pgvector_sync.celery_app")
QUEUES = ("live", "bulk", "maintenance")


@dataclass
class Cluster:
    synced: Synced
    valkey: Valkey
    processes: Processes

    def worker(self, pool: str = "prefork", concurrency: int = 2, **env: str) -> Process:
        """`pgvector-sync worker`, ready."""
        process = self.processes.command("worker", "--pool", pool, "--concurrency", str(concurrency), **env)
        process.wait_for(READY)
        return process

    def insert(self, count: int, *, start: int = 1) -> None:
        self.synced.run(
            f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series({start}, {start + count - 1}) AS i"
        )

    def settles(self, timeout: float = 40.0) -> None:
        """The processes get everything done, all by themselves; coverage holds all the while."""

        def done() -> bool:
            self.synced.covered()
            return settled(self.synced.runtime.database, None)

        eventually(done, timeout, what="nothing is left to do")
        self.synced.covered()
        self.synced.exact()
        assert self.synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lease IS NOT NULL") == 0

    def calls(self) -> int:
        return self.synced.endpoint.calls.requests

    def in_call(self, more_than: int = 0) -> None:
        """Waits until the endpoint has got a request."""
        eventually(lambda: self.calls() > more_than, 20, what="a request has arrived")

    def lengths(self) -> dict[str, int]:
        with redis.Redis.from_url(self.valkey.url) as client:
            return {queue: int(client.llen(queue)) for queue in QUEUES}  # type: ignore[arg-type]


def children(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)
