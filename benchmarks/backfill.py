"""The speed of a first backfill beside that of COPY: rows per second, and CPU per row of ours and of Postgres.

    python benchmarks/backfill.py                 20,000 rows of 400 characters, three rounds; about two minutes

A round writes the same number of vectors of the same size with COPY (in binary, 512 rows at a time), with `sync`,
and with workers of two prefork processes and of four threads, beat included. The endpoint is a process on the same
cores and answers at once. The workers have embedded other rows before, so that start-up isn't measured. The
figures are medians.
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
from deployed import WORDS, cpu, deployment, make_source
from fast_endpoint import FastEndpoint, running_fast_endpoint

from pgvector_sync.engine.loop import Loop
from pgvector_sync.observe.status import settled
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.garbage import spare_what_is_loaded
from support.servers import Database, Server, new_database, running_postgres
from support.waiting import eventually

DIMENSIONS = 1536
COPY_ROWS = 512
SYNC_BATCHES = 4
WARM_UP_ROWS = 2_000
WORKERS = {"worker, prefork, 2": ("prefork", 2), "worker, threads, 4": ("threads", 4)}


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
        while True:
            before = fields_of(Path(f"/proc/{postmaster}"))[11:15]
            ticks = sum(map(int, before)) + _children_ticks(postmaster)
            if fields_of(Path(f"/proc/{postmaster}"))[13:15] == before[2:]:  # no process has ended meanwhile
                return ticks / os.sysconf("SC_CLK_TCK")


def _children_ticks(parent: str) -> int:
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = fields_of(process)
        except OSError:
            continue  # it has just ended
        if fields[1] == parent:
            ticks += sum(map(int, fields[11:13]))
    return ticks


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


def sync(runtime: Runtime, rows: int, *, batches: int = SYNC_BATCHES) -> None:
    """Store all rows as the command does, with as many batches in flight as it has by default."""
    loop = Loop(runtime, concurrency=batches)
    loop.run(finished=lambda: settled(runtime.database, None), on_turn=lambda _: spare_what_is_loaded())
    loop.finish()
    if loop.progress.stored != rows:
        raise SystemExit(f"expected {rows} stored vectors, got {loop.progress.stored}")


def copied_and_synced(server: Server, endpoint: FastEndpoint, rows: int, words: int) -> dict[str, Cost]:
    """Return what COPY and what `sync` cost."""
    with (
        new_database(server) as database,
        pipeline(database, endpoint, existing=rows, words=words, dimensions=DIMENSIONS) as runtime,
    ):
        database.execute(f"CREATE TABLE copied (id bigint PRIMARY KEY, embedding vector({DIMENSIONS}))")
        copied = measure(database, lambda: copy(database, rows))
        synced = measure(database, lambda: sync(runtime, rows))
        return {"COPY": copied, "sync": synced}


def worked(server: Server, pool: str, concurrency: int, rows: int, words: int) -> Cost:
    """Return what a worker that is already running costs, beat included."""
    with deployment(
        server, existing=WARM_UP_ROWS, dimensions=DIMENSIONS, pool=pool, concurrency=concurrency
    ) as running:
        database = running.database

        def ours() -> float:
            return cpu(running.worker) + cpu(running.beat)

        make_source(database, "measured", rows, words=words)
        before, postgres_before = ours(), postgres_cpu(database)
        running.declare("measured")
        eventually(running.is_done, 120, what="the backfill is done")
        elapsed = "SELECT extract(epoch FROM clock_timestamp() - max(started_at))::float8 FROM pgvector_sync.run"
        cost = Cost(database.value(elapsed), ours() - before, postgres_cpu(database) - postgres_before)
        if (stored := database.value("SELECT count(*) FROM measured_embedding")) != rows:
            raise SystemExit(f"expected {rows} stored vectors, got {stored}")
        return cost


def one_round(server: Server, endpoint: FastEndpoint, rows: int, words: int = WORDS) -> dict[str, Cost]:
    """Return what each way of writing the rows cost."""
    costs = copied_and_synced(server, endpoint, rows, words)
    return costs | {name: worked(server, *worker, rows, words) for name, worker in WORKERS.items()}


@dataclass(frozen=True)
class Median:
    """The medians over all rounds."""

    rows_per_second: float
    our_cpu: float
    """In µs per row."""
    postgres_cpu: float
    of_copy: float
    """The speed, as a share of COPY's in the same round."""
    postgres_over_copy: float
    """The CPU of Postgres, as a multiple of COPY's in the same round."""


def medians(rounds: list[dict[str, Cost]], rows: int) -> dict[str, Median]:
    def median(value: Callable[[Cost, Cost], float], name: str) -> float:
        return statistics.median(value(costs[name], costs["COPY"]) for costs in rounds)

    return {
        name: Median(
            median(lambda cost, _: rows / cost.elapsed, name),
            median(lambda cost, _: cost.our_cpu / rows * 1e6, name),
            median(lambda cost, _: cost.postgres_cpu / rows * 1e6, name),
            median(lambda cost, copied: copied.elapsed / cost.elapsed, name),
            median(lambda cost, copied: cost.postgres_cpu / copied.postgres_cpu, name),
        )
        for name in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=WORDS, help="of five bytes each, per row")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    with running_postgres(options.postgres) as server, running_fast_endpoint() as endpoint:
        rounds = [one_round(server, endpoint, options.rows, options.words) for _ in range(options.rounds)]
    print(f"{'':20}{'rows/s':>9}{'of COPY':>9}{'our CPU':>11}{'CPU of Postgres':>17}{'over COPY':>11}")
    for name, median in medians(rounds, options.rows).items():
        print(
            f"{name:20}{median.rows_per_second:9,.0f}{median.of_copy:9.2f}{median.our_cpu:8.0f} µs"
            f"{median.postgres_cpu:14.0f} µs{median.postgres_over_copy:11.1f}"
        )


if __name__ == "__main__":
    main()
