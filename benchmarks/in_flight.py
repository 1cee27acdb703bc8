"""Rows per second against calls in flight, at a provider that takes 200 ms per call.

    python benchmarks/in_flight.py                          `sync` and a worker with threads; about four minutes
    python benchmarks/in_flight.py --calls 8 --json

Each speed is that of a first backfill, beside that of the same number of calls at a provider that answers at once
on the same cores. The bound is the lower of two speeds: calls in flight * rows per call / time of a call, and
that at 0 ms. A worker has one slot more than calls, which it keeps for live changes; `sync` adds it by itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline
from deployed import deployment, make_source, stored
from fast_endpoint import running_fast_endpoint

from pgvector_sync.engine.loop import Loop
from pgvector_sync.observe.status import settled
from support.servers import Server, new_database, running_postgres
from support.waiting import eventually

DIMENSIONS = 1536
BATCH_ROWS = 512
CALLS = (1, 2, 4, 8, 16)
LATENCY_MS = 200.0
WARM_UP_ROWS = 2_000
TIMED_CALLS = 5


@dataclass(frozen=True)
class Point:
    """The speeds at one number of calls in flight, in rows per second."""

    process: str
    """`sync` or `worker`."""
    calls: int
    rows_per_second: float
    at_once: float
    """The speed at a provider that answers at once."""
    bound: float
    """The lower of that and of what the provider's calls allow."""

    @property
    def of_bound(self) -> float:
        return self.rows_per_second / self.bound


def call_time(latency_ms: float) -> float:
    """Return the median time of a bare call for one batch, in seconds."""
    body = json.dumps({"model": "fixed", "input": ["word " * 80] * BATCH_ROWS, "encoding_format": "base64"})
    times = []
    with running_fast_endpoint("--latency-ms", str(latency_ms), "--dimensions", str(DIMENSIONS)) as endpoint:
        request = urllib.request.Request(f"{endpoint.base_url}/embeddings", body.encode())
        for _ in range(TIMED_CALLS):
            begun = time.perf_counter()
            with urllib.request.urlopen(request) as answer:
                answer.read()
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def synced(server: Server, calls: int, latency_ms: float, rows: int) -> float:
    """Return the speed of `sync`."""
    with (
        running_fast_endpoint("--latency-ms", str(latency_ms), "--dimensions", str(DIMENSIONS)) as endpoint,
        new_database(server) as database,
        pipeline(
            database, endpoint, existing=rows, dimensions=DIMENSIONS, in_flight_batches=max(8, calls)
        ) as runtime,
    ):
        loop = Loop(runtime, concurrency=calls)
        begun = time.perf_counter()
        loop.run(finished=lambda: settled(runtime.database, None))
        elapsed = time.perf_counter() - begun
        loop.finish()
        if loop.progress.stored != rows:
            raise SystemExit(f"expected {rows} stored vectors, got {loop.progress.stored}")
        return rows / elapsed


def worked(server: Server, calls: int, latency_ms: float, rows: int) -> float:
    """Return the speed of a worker with threads that is already running."""
    with deployment(
        server,
        existing=WARM_UP_ROWS,
        dimensions=DIMENSIONS,
        pool="threads",
        concurrency=calls + 1 if calls > 1 else 1,
        latency_ms=latency_ms,
        environment={"PGVECTOR_SYNC_IN_FLIGHT_BATCHES": str(max(8, calls))},
    ) as running:
        make_source(running.database, "measured", rows)
        running.declare("measured")
        eventually(running.is_done, 120, what="the backfill is done")
        elapsed = running.database.value(
            "SELECT extract(epoch FROM clock_timestamp() - max(started_at))::float8 FROM pgvector_sync.run"
        )
        if (count := stored(running.database, "measured")) != rows:
            raise SystemExit(f"expected {rows} stored vectors, got {count}")
        return rows / elapsed


PROCESSES = {"sync": synced, "worker": worked}


def measured(
    server: Server,
    *,
    processes: tuple[str, ...] = tuple(PROCESSES),
    calls: tuple[int, ...] = CALLS,
    latency_ms: float = LATENCY_MS,
    rows: int = 20_000,
) -> Iterator[Point]:
    """Yield the speeds of each process at each number of calls in flight."""
    per_call = BATCH_ROWS / call_time(latency_ms)
    for process in processes:
        for count in calls:
            speed, at_once = (PROCESSES[process](server, count, latency, rows) for latency in (latency_ms, 0.0))
            yield Point(process, count, speed, at_once, min(count * per_call, at_once))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--process", choices=tuple(PROCESSES), action="append")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--latency-ms", type=float, default=LATENCY_MS)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    parser.add_argument("--json", action="store_true", help="Print one JSON object per line.")
    options = parser.parse_args()
    if not options.json:
        print(f"{'':8}{'in flight':>10}{'rows/s':>9}{'at 0 ms':>9}{'of the bound':>14}")
    with running_postgres(options.postgres) as server:
        for point in measured(
            server,
            processes=tuple(options.process or PROCESSES),
            calls=tuple(options.calls),
            latency_ms=options.latency_ms,
            rows=options.rows,
        ):
            if options.json:
                print(json.dumps(dataclasses.asdict(point) | {"of_bound": point.of_bound}), flush=True)
                continue
            print(
                f"{point.process:8}{point.calls:10}{point.rows_per_second:9,.0f}{point.at_once:9,.0f}"
                f"{point.of_bound:14.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
