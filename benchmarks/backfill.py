"""The speed of a first backfill beside that of COPY: rows per second, and CPU per row of `sync` and of Postgres.

    python benchmarks/backfill.py                 20,000 rows of 400 characters, three rounds; about a minute

The endpoint is a process on the same cores and answers at once. COPY writes the same number of vectors of the same
size in batches of 512 rows, in binary, in the same round. The figures are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from declared import pipeline
from fast_endpoint import FastEndpoint, running_fast_endpoint

from pgvector_sync.engine.loop import Loop
from pgvector_sync.observe.status import settled
from support.servers import Database, Server, new_database, running_postgres

DIMENSIONS = 1536
COPY_ROWS = 512


@dataclass(frozen=True)
class Cost:
    """What it took to write some rows, in seconds."""

    elapsed: float
    our_cpu: float
    postgres_cpu: float


def fields_of(process: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: the state, the parent and so on."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def postgres_cpu(database: Database) -> float:
    """Return the CPU seconds of the server's processes, ended ones included."""
    with database.connect() as connection:
        backend = connection.info.backend_pid
        postmaster = fields_of(Path(f"/proc/{backend}"))[1]
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = fields_of(process)
        except OSError:
            continue  # it has just ended
        if process.name == postmaster:
            ticks += sum(map(int, fields[11:15]))  # with those of its children that have ended
        elif fields[1] == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(database: Database, action: Callable[[], object]) -> Cost:
    begun, ours, theirs = time.perf_counter(), time.process_time(), postgres_cpu(database)
    action()
    return Cost(time.perf_counter() - begun, time.process_time() - ours, postgres_cpu(database) - theirs)


def copy(database: Database, rows: int) -> None:
    """Write rows of (id, vector) as fast as Postgres takes them."""
    vector = (
        struct.pack(">HH", DIMENSIONS, 0)
        + np.random.default_rng(1).normal(size=DIMENSIONS).astype(">f4").tobytes()
    )
    with database.connect() as connection:
        for first in range(0, rows, COPY_ROWS):
            with connection.cursor().copy("COPY copied (id, embedding) FROM STDIN (FORMAT binary)") as writing:
                writing.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
                for number in range(first, min(rows, first + COPY_ROWS)):
                    writing.write(struct.pack(">hiqi", 2, 8, number, len(vector)) + vector)
                writing.write(b"\xff\xff")


def one_round(server: Server, endpoint: FastEndpoint, rows: int) -> tuple[Cost, Cost]:
    """Return what COPY and what `sync` cost."""
    with (
        new_database(server) as database,
        pipeline(database, endpoint, existing=rows, dimensions=DIMENSIONS) as runtime,
    ):
        database.execute(f"CREATE TABLE copied (id bigint PRIMARY KEY, embedding vector({DIMENSIONS}))")
        copied = measure(database, lambda: copy(database, rows))
        loop = Loop(runtime)
        synced = measure(database, lambda: loop.run(finished=lambda: settled(runtime.database, None)))
        if loop.progress.stored != rows:
            raise SystemExit(f"expected {rows} stored vectors, got {loop.progress.stored}")
        return copied, synced


def show(name: str, costs: list[Cost], rows: int) -> None:
    elapsed, ours, theirs = (
        statistics.median(getattr(cost, field) for cost in costs)
        for field in ("elapsed", "our_cpu", "postgres_cpu")
    )
    print(
        f"{name:6}{rows / elapsed:10,.0f} rows/s   {ours / rows * 1e6:6.0f} µs of our CPU per row   "
        f"{theirs / rows * 1e6:6.0f} µs of Postgres' CPU per row"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    with running_postgres(options.postgres) as server, running_fast_endpoint() as endpoint:
        rounds = [one_round(server, endpoint, options.rows) for _ in range(options.rounds)]
    copied, synced = [copy for copy, _ in rounds], [sync for _, sync in rounds]
    show("COPY", copied, options.rows)
    show("sync", synced, options.rows)
    speed = statistics.median(one.elapsed / other.elapsed for one, other in rounds)
    cpu = statistics.median(other.postgres_cpu / one.postgres_cpu for one, other in rounds)
    print(f"sync reaches {speed:.2f} of COPY's speed, with {cpu:.1f} times its CPU in Postgres")


if __name__ == "__main__":
    main()
