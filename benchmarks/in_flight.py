"""How many rows per second a worker stores with several calls in flight, at 200 ms per call.

    python benchmarks/in_flight.py                  1, 2, 4 and 8 calls in flight; about a minute

The worker has a thread per call. Calls in flight times the rows of a batch, divided by the time of a call, is what
the provider allows; what the same worker reaches at 0 ms is what this machine allows. The lower of both is the
limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed import deployment, make_source
from fast_endpoint import running_fast_endpoint

from support.servers import Server, running_postgres
from support.waiting import eventually

LATENCY_MS = 200
DIMENSIONS = 1536
BATCH_ROWS = 256
CALLS = (1, 2, 4, 8)
WARM_UP_ROWS = 4_096
ELAPSED = "SELECT extract(epoch FROM clock_timestamp() - max(started_at))::float8 FROM pgvector_sync.run"


@dataclass(frozen=True)
class Speed:
    """What a worker reached with some calls in flight, in rows per second."""

    calls: int
    reached: float
    provider: float
    """What the provider allows."""
    machine: float
    """What a worker with the most calls in flight reaches at 0 ms."""

    @property
    def limit(self) -> float:
        return min(self.provider, self.machine)

    @property
    def share(self) -> float:
        return self.reached / self.limit


def call_seconds(*, latency_ms: float, rounds: int = 7) -> float:
    """Return the median time of a call with the inputs of a batch, as a plain client sees it."""
    inputs = [f"{number}{' word' * 80}" for number in range(BATCH_ROWS)]
    body = json.dumps({"input": inputs}).encode()
    with running_fast_endpoint("--latency-ms", str(latency_ms), "--dimensions", str(DIMENSIONS)) as endpoint:
        seconds = []
        for _ in range(rounds):
            begun = time.perf_counter()
            with urllib.request.urlopen(f"{endpoint.base_url}/embeddings", body) as answer:
                answer.read()
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def stored_per_second(server: Server, *, calls: int, latency_ms: float, batches: int) -> float:
    """Return the speed of a backfill by a worker that is already running."""
    rows = BATCH_ROWS * calls * batches
    with deployment(
        server,
        existing=WARM_UP_ROWS,
        dimensions=DIMENSIONS,
        pool="threads",
        concurrency=calls,
        latency_ms=latency_ms,
    ) as running:
        make_source(running.database, "measured", rows)
        running.declare("measured")
        eventually(running.is_done, 120, what="the backfill is done")
        return rows / running.database.value(ELAPSED)


def speeds(server: Server, *, batches: int = 10) -> list[Speed]:
    """Measure every number of calls in flight. `batches` is the number per call in flight."""
    call = call_seconds(latency_ms=LATENCY_MS)
    most = max(CALLS)
    machine = stored_per_second(server, calls=most, latency_ms=0, batches=batches)
    return [
        Speed(
            calls,
            stored_per_second(server, calls=calls, latency_ms=LATENCY_MS, batches=batches),
            calls * BATCH_ROWS / call,
            machine,
        )
        for calls in CALLS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=10, help="batches per call in flight")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    print(f"{'calls':>5}{'rows/s':>9}{'of the limit':>14}{'provider':>10}{'machine':>9}")
    with running_postgres(options.postgres) as server:
        for speed in speeds(server, batches=options.batches):
            print(
                f"{speed.calls:5}{speed.reached:9,.0f}{speed.share:14.2f}{speed.provider:10,.0f}{speed.machine:9,.0f}"
            )


if __name__ == "__main__":
    main()
