"""How long changes wait for their vectors: from the commit of a change to the commit of its vector.

    python benchmarks/lag.py                      50 and 300 changes per second, about two minutes

The endpoint answers at once. One connection inserts a row at a time, each in its own transaction and at its own
time, even if earlier ones were late. The server notes when each transaction commits.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed import deployment, stored

from support.servers import Database, Server, running_postgres
from support.waiting import eventually

TIMEOUT = 60.0
"""Seconds to wait for a vector."""
SECONDS = 20.0
WARM_UP = 3.0
"""Seconds of changes that aren't measured, while processes connect and prepare their statements."""
NOTING = {"track_commit_timestamp": "on"}
"""The settings of a server that notes when transactions commit."""


def flow(server: Server, *, rate: float, seconds: float = SECONDS) -> list[float]:
    """Return the lags in seconds of changes that arrive at `rate` per second, on a server with `NOTING`."""
    with deployment(server) as running:
        [table] = running.tables
        first = int(WARM_UP * rate) + 2
        last = first + int(seconds * rate)
        with running.database.connect() as connection:
            begun = time.perf_counter()
            for number in range(2, last):
                time.sleep(max(0.0, begun + (number - 2) / rate - time.perf_counter()))
                connection.execute(f"INSERT INTO {table} VALUES (%s, 'change ' || %s)", (number,) * 2)
        eventually(lambda: stored(running.database, table) == last - 1, TIMEOUT, what="a vector per change")
        committed = "extract(epoch FROM pg_xact_commit_timestamp({}.xmin))"
        rows = running.database.execute(
            f"SELECT ({committed.format('e')} - {committed.format('d')})::float8 "
            f"FROM {table} d JOIN {table}_embedding e USING (id) WHERE id >= {first}"
        )
        return [lag for (lag,) in rows]


def lags(database: Database, table: str, first: int, changes: int) -> list[float]:
    """Return the seconds from the commit of each change to its vector, as a reader sees it.

    Changes are inserted one by one, each after the previous vector. The rows are `first`, `first` + 1, …
    """
    seconds = []
    with database.connect() as connection:
        for number in range(first, first + changes):
            connection.execute(f"INSERT INTO {table} VALUES (%s, 'change ' || %s)", (number,) * 2)
            committed = time.perf_counter()
            query = f"SELECT FROM {table}_embedding WHERE id = %s"
            while connection.execute(query, (number,)).fetchone() is None:
                if time.perf_counter() - committed > TIMEOUT:
                    raise SystemExit(f"a change of {table} got no vector within {TIMEOUT:g} s")
                time.sleep(0.002)
            seconds.append(time.perf_counter() - committed)
    return seconds


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 300], help="changes per second")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    with running_postgres(18, **NOTING) as server:
        for rate in options.rates:
            values = flow(server, rate=rate, seconds=options.seconds)
            p50, p99 = (percentile(values, share) * 1000 for share in (0.5, 0.99))
            print(f"{rate:5g} changes per second: p50 {p50:.0f} ms, p99 {p99:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
