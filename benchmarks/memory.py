"""How much memory a worker's processes take while many changes are drained and embedded.

    python benchmarks/memory.py                     200,000 rows, about a minute

One statement inserts all rows. The worker has two prefork processes; vectors have 1,536 dimensions.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psutil
from deployed import Deployment, deployment, insert

from support.servers import Server, running_postgres

DIMENSIONS = 1536
EVERY = 0.5
"""Seconds between two samples."""
MEGABYTE = 1_000_000
TIMEOUT = 300.0


@dataclass(frozen=True)
class Memory:
    """The resident memory of the largest process of a worker, in MB."""

    most: float
    early: float
    """The most in the second quarter of the time, when everything is loaded."""
    late: float
    """The most in the last quarter. It isn't above `early` if memory doesn't grow."""


def resident(running: Deployment) -> float:
    """Return the memory of the worker's largest process."""
    root = psutil.Process(running.worker.pid)
    return max(each.memory_info().rss for each in (root, *root.children(recursive=True))) / MEGABYTE


def drained(server: Server, rows: int) -> Memory:
    """Insert the rows, and sample the memory until their vectors are stored."""
    with deployment(server, dimensions=DIMENSIONS) as running:
        [table] = running.tables
        insert(running.database, table, 2, rows)
        samples = [resident(running)]
        end = time.monotonic() + TIMEOUT
        while running.database.value("SELECT EXISTS (SELECT FROM pgvector_sync.outbox)") or not running.is_done():
            if time.monotonic() > end:
                raise SystemExit(f"{rows:,} rows weren't embedded within {TIMEOUT:g} s")
            time.sleep(EVERY)
            samples.append(resident(running))
        quarter = max(1, len(samples) // 4)
        return Memory(max(samples), max(samples[quarter : 2 * quarter]), max(samples[-quarter:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    with running_postgres(options.postgres) as server:
        memory = drained(server, options.rows)
    print(
        f"the largest process: {memory.most:.0f} MB at most; {memory.early:.0f} MB in the second quarter of the "
        f"time, {memory.late:.0f} MB in the last"
    )


if __name__ == "__main__":
    main()
