"""How fast one walker enqueues a backfill, without workers: `python benchmarks/walker.py`, less than a minute."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline

from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runs.run import carry_out
from support.endpoint import Endpoint
from support.servers import new_database, running_postgres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    # so high that the walker never waits for workers
    depth = options.rows * 2
    with (
        running_postgres(18) as server,
        new_database(server) as database,
        Endpoint() as endpoint,
        pipeline(database, endpoint, existing=options.rows, bulk_depth_rows=depth) as runtime,
    ):
        run_id = database.value("SELECT id FROM pgvector_sync.run WHERE kind = 'backfill'")
        begun = time.perf_counter()
        carry_out(runtime, run_id, until=Deadline.after(timedelta(minutes=5)))
        taken = time.perf_counter() - begun
        enqueued = database.value("SELECT count(*) FROM pgvector_sync.work")
        print(f"{enqueued:,} rows in {taken:.1f} s: {enqueued / taken:,.0f} rows/s")


if __name__ == "__main__":
    main()
