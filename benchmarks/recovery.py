"""How long after a fault the waiting changes get their vectors: `python benchmarks/recovery.py`, five minutes.

It uses real servers, a real worker with the default settings, and an endpoint that takes 0.3 s per call. In every
round a batch of ten rows is at the provider when the fault occurs, and ten single changes follow immediately. The
times are from the end of the fault until the first and the last of those ten have their vectors, and until the
interrupted batch has.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import redis

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from pgvector_sync.observe.status import settled
from pgvector_sync.store.migrations import migrate
from support.cluster import Cluster, children, open_cluster
from support.processes import Process, Processes
from support.proxy import Proxy
from support.servers import Database, Valkey, new_database, running_postgres, running_valkey
from support.synced import running_endpoint
from support.waiting import eventually

CALL = 0.3
ROWS = 10
TIMEOUT = 150.0
OURS = "application_name = 'pgvector-sync' AND datname = current_database()"


@dataclass
class World:
    cluster: Cluster
    database: Database
    valkey: Valkey
    to_postgres: Proxy
    to_valkey: Proxy
    to_endpoint: Proxy
    workers: list[Process] = field(default_factory=list)
    last_key: int = 0

    def start(self, count: int) -> None:
        """Make this many workers run."""
        self.workers = [worker for worker in self.workers if worker.exit_code is None]
        for worker in self.workers[count:]:
            worker.kill()
        del self.workers[count:]
        while len(self.workers) < count:
            self.workers.append(self.cluster.worker("prefork", concurrency=2))
        self.workers[0].wait_for("relay_elected")

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()

    def change(self, *, at_once: bool) -> list[int]:
        """Insert ten rows, in one transaction or one by one; return their keys."""
        keys = list(range(self.last_key + 1, self.last_key + ROWS + 1))
        self.last_key = keys[-1]
        insert = "INSERT INTO docs (id, body) VALUES (%s, 'text ' || %s)"
        writable = "-c default_transaction_read_only=off"  # even if the database is read-only by default
        with psycopg.connect(self.database.url, autocommit=not at_once, options=writable) as connection:
            for key in keys:
                connection.execute(insert, [key, key])
        return keys

    def embedded(self, keys: list[int]) -> int:
        return self.database.value("SELECT count(*) FROM docs_embedding WHERE id = ANY (%s)", keys)

    def quiet(self) -> None:
        """End the leases of killed workers, and wait until all work is done."""
        self.database.execute(
            "UPDATE pgvector_sync.lease SET lost_at = statement_timestamp() WHERE lost_at IS NULL"
        )
        eventually(lambda: settled(self.cluster.synced.runtime.database, None), 60)


# -- the faults: the code before `yield` causes a fault, the code after it ends it -------------------------


@contextmanager
def kill_children(world: World) -> Iterator[None]:
    for child in children(world.workers[0]):
        child.kill()
    yield


@contextmanager
def kill_worker(world: World) -> Iterator[None]:
    world.workers[0].kill()
    yield


@contextmanager
def kill_and_start_worker(world: World) -> Iterator[None]:
    world.workers[0].kill()
    world.workers[0] = world.cluster.processes.command("worker", "--concurrency", "2")
    yield


@contextmanager
def terminate_worker(world: World) -> Iterator[None]:
    world.workers.pop(0).send(signal.SIGTERM)
    yield


@contextmanager
def terminate_backends(world: World) -> Iterator[None]:
    world.database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
    yield


@contextmanager
def restart_postgres(world: World) -> Iterator[None]:
    world.database.server.restart()
    yield


@contextmanager
def read_only(world: World) -> Iterator[None]:
    name = world.database.name
    world.database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    world.database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
    yield
    time.sleep(5)
    reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    world.database.execute(f"BEGIN READ WRITE; {reset}; COMMIT")


@contextmanager
def cut_postgres(world: World) -> Iterator[None]:
    world.to_postgres.cut()
    yield


@contextmanager
def silence_postgres(world: World) -> Iterator[None]:
    world.to_postgres.mute()
    world.to_postgres.heal()
    yield


@contextmanager
def flush_valkey(world: World) -> Iterator[None]:
    with redis.Redis.from_url(world.valkey.url) as client:
        client.flushall()
    yield


@contextmanager
def restart_valkey(world: World) -> Iterator[None]:
    world.valkey.kill()
    world.valkey.start()
    yield


@contextmanager
def cut_valkey(world: World) -> Iterator[None]:
    world.to_valkey.cut()
    yield


@contextmanager
def silence_valkey(world: World) -> Iterator[None]:
    world.to_valkey.mute()
    world.to_valkey.heal()
    yield


@contextmanager
def stop_provider(world: World) -> Iterator[None]:
    world.to_endpoint.refuse()
    yield
    time.sleep(10)
    world.to_endpoint.heal()


@contextmanager
def nothing(_world: World) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[World], object]
    rounds: int = 3
    workers: int = 1


FAULTS = [
    Fault("none", nothing),
    Fault("kill -9 of a worker's children", kill_children),
    Fault("kill -9 of a worker, another runs", kill_worker, workers=2),
    Fault("kill -9 of the only worker, started again", kill_and_start_worker),
    Fault("SIGTERM of a worker, another runs", terminate_worker, workers=2),
    Fault("pg_terminate_backend of all our connections", terminate_backends),
    Fault("immediate restart of Postgres", restart_postgres),
    Fault("Postgres read-only for 5 s", read_only),
    Fault("connections to Postgres cut", cut_postgres),
    Fault("connections to Postgres half-open", silence_postgres, rounds=1),
    Fault("FLUSHALL", flush_valkey),
    Fault("kill -9 and start of Valkey", restart_valkey),
    Fault("connections to Valkey cut", cut_valkey),
    Fault("connections to Valkey half-open", silence_valkey, rounds=1),
    Fault("provider down for 10 s", stop_provider, rounds=2),
]


def measure(world: World, fault: Fault) -> tuple[float, float, float]:
    """Return the seconds from the end of the fault to the first and last change, and to the interrupted batch."""
    world.start(fault.workers)
    world.quiet()
    calls = world.cluster.calls()
    hit = world.change(at_once=True)
    eventually(lambda: world.cluster.calls() > calls, 20, what="the batch is at the provider")
    with fault.strike(world):  # type: ignore[attr-defined]
        waiting = world.change(at_once=False)
    ended = time.monotonic()

    def wait_for(keys: list[int], count: int) -> float:
        eventually(lambda: world.embedded(keys) >= count, TIMEOUT, what=f"{count} rows after {fault.name}")
        return time.monotonic() - ended

    first, last = wait_for(waiting, 1), wait_for(waiting, ROWS)
    return first, last, wait_for(hit, ROWS)


def report(fault: Fault, rounds: list[tuple[float, float, float]]) -> str:
    first, last, hit = map(statistics.median, zip(*rounds, strict=True))
    return f"{fault.name:46}{first:6.1f} s{last:9.1f} s{hit:10.1f} s{len(rounds):8}"


def main() -> None:
    with ExitStack() as stack:
        database = stack.enter_context(new_database(stack.enter_context(running_postgres(18))))
        valkey = stack.enter_context(running_valkey())
        shared = stack.enter_context(running_endpoint())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        migrate(database.url)
        processes = Processes(folder, {})
        endpoint = shared[0]
        proxies = [stack.enter_context(Proxy(url)) for url in (database.url, valkey.url, endpoint.base_url)]
        patch.setattr(endpoint, "base_url", proxies[2].url)
        cluster = stack.enter_context(open_cluster(database, valkey, processes, shared, patch))
        processes.env |= {"DATABASE_URL": proxies[0].url, "REDIS_URL": proxies[1].url}
        endpoint.latency = CALL
        world = World(cluster, database, valkey, *proxies)
        stack.callback(world.end)
        began = time.monotonic()
        print(f"{'after':46}{'first':>8}{'last change':>13}{'batch hit':>12}{'rounds':>8}")
        for fault in FAULTS:
            print(report(fault, [measure(world, fault) for _ in range(fault.rounds)]), flush=True)
        print(f"\nDefault settings. Took {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
