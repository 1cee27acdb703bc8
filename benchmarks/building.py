"""How long changes wait for their vectors while an index is built: from a change's commit to its vector's.

    python benchmarks/building.py        25 changes per second, 60,000 vectors of 256 dimensions, two minutes

The build is `index build --wait`, on the cores of the worker, the server and the endpoint. What a statement of the
application takes is measured beside it.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed import DIMENSIONS, Deployment, deployment
from lag import NOTING, WARM_UP, percentile

from support.servers import running_postgres
from support.waiting import eventually

IDLE_SECONDS = 20.0


def flow(running: Deployment, rate: float, ended: threading.Event, first: int) -> tuple[list[float], list[float]]:
    """Insert rows until `ended`; return the lags and the durations of the statements, in seconds."""
    [table] = running.tables
    took, number = [], first
    with running.database.connect() as connection:
        begun = time.perf_counter()
        while not ended.is_set():
            time.sleep(max(0.0, begun + (number - first) / rate - time.perf_counter()))
            before = time.perf_counter()
            connection.execute(f"INSERT INTO {table} VALUES (%s, 'change ' || %s)", (number,) * 2)
            took.append(time.perf_counter() - before)
            number += 1
    count = f"SELECT count(*) FROM {table}_embedding WHERE id >= {first}"
    eventually(lambda: running.database.value(count) == number - first, 60, what="a vector per change")
    committed = "extract(epoch FROM pg_xact_commit_timestamp({}.xmin))"
    rows = running.database.execute(
        f"SELECT ({committed.format('e')} - {committed.format('d')})::float8 "
        f"FROM {table} d JOIN {table}_embedding e USING (id) WHERE id >= {first + int(WARM_UP * rate)}"
    )
    return [lag for (lag,) in rows], took[int(WARM_UP * rate) :]


def shown(what: str, lags: list[float], took: list[float]) -> None:
    p50, p99 = (percentile(lags, share) * 1000 for share in (0.5, 0.99))
    write = percentile(took, 0.99) * 1000
    print(
        f"{what}: lag p50 {p50:.0f} ms, p99 {p99:.0f} ms; INSERT p99 {write:.1f} ms ({len(lags):,} changes)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=25, help="changes per second")
    parser.add_argument("--rows", type=int, default=60_000, help="vectors to index")
    options = parser.parse_args()
    with running_postgres(18, **NOTING, max_wal_size="4GB") as server, deployment(server) as running:
        [table] = running.tables
        running.database.execute(
            f"INSERT INTO {table}_embedding (id, embedding, fingerprint, model, embedded_at) "
            f"SELECT -n, ARRAY(SELECT random() - 0.5 + n * 0 FROM generate_series(1, {DIMENSIONS}))::vector, "
            f"sha256(n::text::bytea), 'm', now() FROM generate_series(1, {options.rows}) n"
        )
        running.database.execute(f"VACUUM ANALYZE {table}_embedding")
        idle = threading.Event()
        threading.Timer(IDLE_SECONDS, idle.set).start()
        shown("no build", *flow(running, options.rate, idle, 1_000_000))
        built = threading.Event()
        begun = time.perf_counter()
        command = running.processes.command("index", "build", table, "--wait", "--memory", "512MB")

        def wait() -> None:
            command.wait(1_800)
            built.set()

        threading.Thread(target=wait).start()
        shown("a build ", *flow(running, options.rate, built, 2_000_000))
        print(
            f"the build took {time.perf_counter() - begun:.0f} s; {command.printed.splitlines()[-1]}", flush=True
        )


if __name__ == "__main__":
    main()
