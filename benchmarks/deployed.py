"""A deployment that benchmarks measure from outside: pipelines, a worker and beat as processes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil
from fast_endpoint import running_fast_endpoint

from pgvector_sync.store.migrations import migrate
from support.endpoint import ENVIRONMENT
from support.processes import Process, Processes
from support.servers import Database, Server, new_database, running_valkey
from support.waiting import eventually

DIMENSIONS = 256
WORDS = 80
"""Of a row's text: about 400 bytes."""
FILE = "pgvector-sync.toml"
PROVIDER = """
[providers.test]
base_url = "{base_url}"
api_key_env = "TEST_KEY"
"""
PIPELINE = """
[pipelines.{table}]
source = "{table}"
text = ["body"]
provider = "test"
model = "text-embedding-3-small"
dimensions = {dimensions}
"""


@dataclass(frozen=True)
class Deployment:
    """A running deployment. Every pipeline has embedded its rows."""

    database: Database
    tables: tuple[str, ...]
    """The sources, which are also the names of their pipelines."""
    worker: Process
    beat: Process
    processes: Processes
    dimensions: int

    def declare(self, table: str) -> None:
        """Declare a further pipeline. Its backfill begins shortly before this returns."""
        with (self.processes.folder / FILE).open("a") as file:
            file.write(PIPELINE.format(table=table, dimensions=self.dimensions))
        apply(self.processes)

    def is_done(self) -> bool:
        """Whether no run and no row is left."""
        runs = "SELECT FROM pgvector_sync.run WHERE state = 'running'"
        return bool(
            self.database.value(f"SELECT NOT EXISTS ({runs}) AND NOT EXISTS (SELECT FROM pgvector_sync.work)")
        )


def cpu(process: Process) -> float:
    """Return the CPU seconds of a process and its children."""
    root = psutil.Process(process.pid)
    times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@contextmanager
def deployment(
    server: Server,
    *,
    pipelines: int = 1,
    existing: int = 1,
    dimensions: int = DIMENSIONS,
    pool: str = "prefork",
    concurrency: int = 2,
    latency_ms: float = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Deployment]:
    """Declare pipelines over `existing` rows each, start a worker and beat, and wait for the vectors."""
    tables = tuple(f"docs{number}" for number in range(1, pipelines + 1))
    with (
        tempfile.TemporaryDirectory() as name,
        running_valkey() as valkey,
        running_fast_endpoint("--dimensions", str(dimensions), "--latency-ms", str(latency_ms)) as endpoint,
        new_database(server) as database,
    ):
        migrate(database.url)
        file = [PROVIDER.format(base_url=endpoint.base_url)]
        for table in tables:
            make_source(database, table, existing)
            file.append(PIPELINE.format(table=table, dimensions=dimensions))
        folder = Path(name)
        (folder / FILE).write_text("\n".join(file))
        processes = Processes(
            folder,
            {"DATABASE_URL": database.url, "REDIS_URL": valkey.url, **ENVIRONMENT, **environment},
        )
        try:
            apply(processes)
            worker = processes.command("worker", "--pool", pool, "--concurrency", str(concurrency))
            beat = processes.command("beat")
            worker.wait_for("relay_elected")
            running = Deployment(database, tables, worker, beat, processes, dimensions)
            for table in tables:
                eventually(
                    lambda table=table: stored(database, table) == existing, 120, what=f"vectors of {table}"
                )
            yield running
        finally:
            for process in processes.started:
                process.kill()


def make_source(database: Database, table: str, rows: int, *, words: int = WORDS) -> None:
    """Create a source with rows of so many words of five bytes each."""
    database.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text)")
    insert(database, table, 1, rows, words=words)
    database.execute(f"ANALYZE {table}")


def insert(database: Database, table: str, first: int, rows: int, *, words: int = WORDS) -> None:
    """Insert rows in one statement."""
    last = first + rows - 1
    database.execute(
        f"INSERT INTO {table} SELECT n, n || repeat(' word', {words}) FROM generate_series({first}, {last}) AS n"
    )


def apply(processes: Processes) -> None:
    """Apply the file in the folder of the processes."""
    if processes.command("apply", "--yes").wait(120) != 0:
        raise SystemExit(processes.started[-1].printed)


def stored(database: Database, table: str) -> int:
    """Return the number of a table's vectors."""
    return int(database.value(f"SELECT count(*) FROM {table}_embedding"))
