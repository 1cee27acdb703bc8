"""Random faults of processes, servers and the provider during the soak."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
import psycopg
import redis

from support.processes import Process, Processes
from support.servers import Database, Postgres, Valkey


class Faults(threading.Thread):
    """Causes a fault every few seconds, and repairs it."""

    def __init__(
        self, postgres: Postgres, valkey: Valkey, database: Database, processes: Processes, control: str, seed: int
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.postgres, self.valkey, self.database = postgres, valkey, database
        self.processes, self.control = processes, control
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.workers: list[Process] = []

    def start_workers(self, count: int) -> None:
        for number in range(count):
            self.workers.append(self._worker(number))

    def _worker(self, number: int) -> Process:
        pool = "prefork" if number % 2 == 0 else "threads"
        return self.processes.command(
            "worker", "--concurrency", "2", "--pool", pool, "--hostname", f"w{number}@%h"
        )

    def run(self) -> None:
        everything: list[tuple[str, Callable[[], None], float]] = [
            ("kill -9 worker", self._kill_worker, 4),
            ("kill -9 child", self._kill_child, 4),
            ("SIGTERM worker", self._terminate_worker, 1),
            ("FLUSHALL", self._flush, 3),
            ("kill -9 Valkey", self._kill_valkey, 1),
            ("Valkey a replica", self._demote_valkey, 1.5),
            ("Postgres immediate restart", self._restart_postgres, 1.5),
            ("pg_terminate_backend", self._terminate_backends, 3),
            ("provider fault", self._provider_fault, 5),
        ]
        while not self.stopping.wait(self.random.uniform(1, 5)):
            name, action, _ = self.random.choices(everything, [weight for *_, weight in everything])[0]
            with suppress(psycopg.OperationalError, redis.exceptions.RedisError, psutil.NoSuchProcess):
                action()
            self.counts[name] += 1
            for number, worker in enumerate(self.workers):
                if worker.exit_code is not None:
                    self.workers[number] = self._worker(number)

    def _some_worker(self) -> Process:
        return self.random.choice(self.workers)

    def _kill_worker(self) -> None:
        self._some_worker().kill()

    def _kill_child(self) -> None:
        children = psutil.Process(self._some_worker().pid).children(recursive=True)
        if children:
            os.kill(self.random.choice(children).pid, signal.SIGKILL)

    def _terminate_worker(self) -> None:
        self._some_worker().send(signal.SIGTERM)

    def _flush(self) -> None:
        redis.Redis.from_url(self.valkey.url).flushall()

    def _kill_valkey(self) -> None:
        self.valkey.kill()
        self.valkey.start()

    def _demote_valkey(self) -> None:
        with redis.Redis.from_url(self.valkey.url) as client:
            client.replicaof("127.0.0.1", "1")
            try:
                self.stopping.wait(self.random.uniform(1, 4))
            finally:
                client.replicaof("NO", "ONE")

    def _restart_postgres(self) -> None:
        self.postgres.restart(at_once=True)

    def _terminate_backends(self) -> None:
        self.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgvector-sync'"
        )

    def _provider_fault(self) -> None:
        fault = self.random.choice(
            [
                {"kind": "status", "status": 500, "times": 3},
                {"kind": "status", "status": 429, "times": 2, "headers": {"Retry-After": "1"}},
                {"kind": "reset", "times": 2},
                {"kind": "truncated", "times": 2},
                {"kind": "wrong_count", "times": 1},
            ]
        )
        request = urllib.request.Request(self.control, json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(request, timeout=5).close()
