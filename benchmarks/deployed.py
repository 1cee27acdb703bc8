"""A deployment that benchmarks measure from outside: pipelines, a worker and beat as processes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fast_endpoint import running_fast_endpoint

from pgvector_sync.store.migrations import migrate
from support.endpoint import ENVIRONMENT
from support.processes import Process, Processes
from support.servers import Database, Server, new_database, running_valkey
from support.waiting import eventually

DIMENSIONS = 256
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
    """A running deployment. Every pipeline has embedded one row."""

    database: Database
    tables: tuple[str, ...]
    """The sources, which are also the names of their pipelines."""
    worker: Process
    beat: Process


@contextmanager
def deployment(
    server: Server, *, pipelines: int = 1, existing: int = 1, dimensions: int = DIMENSIONS, concurrency: int = 2
) -> Iterator[Deployment]:
    """Declare pipelines over `existing` rows each, start a worker (prefork) and beat, and wait for the vectors."""
    tables = tuple(f"docs{number}" for number in range(1, pipelines + 1))
    with (
        tempfile.TemporaryDirectory() as name,
        running_valkey() as valkey,
        running_fast_endpoint("--dimensions", str(dimensions)) as endpoint,
        new_database(server) as database,
    ):
        migrate(database.url)
        file = [PROVIDER.format(base_url=endpoint.base_url)]
        for table in tables:
            database.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text)")
            database.execute(f"INSERT INTO {table} SELECT n, 'row ' || n FROM generate_series(1, {existing}) AS n")
            file.append(PIPELINE.format(table=table, dimensions=dimensions))
        folder = Path(name)
        (folder / "pgvector-sync.toml").write_text("\n".join(file))
        processes = Processes(folder, {"DATABASE_URL": database.url, "REDIS_URL": valkey.url, **ENVIRONMENT})
        try:
            if processes.command("apply", "--yes").wait(120) != 0:
                raise SystemExit(processes.started[-1].printed)
            worker = processes.command("worker", "--concurrency", str(concurrency))
            beat = processes.command("beat")
            worker.wait_for("relay_elected")
            running = Deployment(database, tables, worker, beat)
            for table in tables:
                eventually(
                    lambda table=table: stored(database, table) == existing, 120, what=f"vectors of {table}"
                )
            yield running
        finally:
            for process in processes.started:
                process.kill()


def stored(database: Database, table: str) -> int:
    """Return the number of a table's vectors."""
    return int(database.value(f"SELECT count(*) FROM {table}_embedding"))
