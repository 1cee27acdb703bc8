"""How a batch slows down with many rows waiting, after many rows have passed, and with a snapshot held.

    python benchmarks/waiting.py                                         about two minutes
    python benchmarks/waiting.py --waiting 1000000 --through 1000000     about six

Every figure is the median time of a statement on 256 rows: what the relay and a worker run for one batch. Each is
compared with the first situation, in which 10,000 rows wait. Autovacuum runs as configured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline

from pgvector_sync.model import Lane
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.store import locks, outbox, pipelines, work
from pgvector_sync.store.due_hints import DueHints
from pgvector_sync.store.work import Holding
from support.endpoint import Endpoint
from support.servers import Database, Postgres, new_database, running_postgres

BATCH_ROWS = 256
PASSING_ROWS = 5_000
"""The rows per step while many rows pass through, which aren't measured."""
FEW = 10_000
Times = dict[str, list[float]]
T = TypeVar("T")


class Queue:
    """The work of one pipeline, moved with the statements of the relay and the workers."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        self.database = database
        self.runtime = runtime
        with runtime.database.transaction() as connection:
            self.pipeline = pipelines.require_pipeline(connection, "docs")
        self.next_key = 1
        self.after_id = 0
        self.counting, self.claiming = DueHints(), DueHints()

    def add(self, rows: int) -> None:
        """Write the events of changes, as the triggers do."""
        self.database.execute(
            "INSERT INTO pgvector_sync.outbox (source_id, key) "
            "SELECT %s, jsonb_build_array(i) FROM generate_series(%s::int, %s::int) AS i",
            self.pipeline.source.id,
            self.next_key,
            self.next_key + rows - 1,
        )
        self.next_key += rows

    def drain(self, rows: int, times: Times) -> int:
        with self.runtime.database.transaction(by_key=True) as connection:
            locks.try_lock_drain(connection)
            timed(times, "waits", lambda: outbox.waits(connection, after_id=self.after_id))
            moved = timed(
                times, "drain", lambda: outbox.move(connection, after_id=self.after_id, limit=rows, burst=10**9)
            )
        self.after_id = moved.last_id
        return moved.events

    def due(self, times: Times) -> None:
        with self.runtime.database.transaction(by_key=True) as connection:
            timed(times, "due", lambda: work.due(connection, limit=BATCH_ROWS * 8, hints=self.counting))

    def process(self, rows: int, times: Times) -> None:
        """Claim and acknowledge a batch without its call."""
        database, lease = self.runtime.database, new_lease(self.runtime.settings, ends_after=timedelta(minutes=1))
        with database.transaction(by_key=True) as connection:
            locks.lock_claims(connection, self.pipeline)
            timed(times, "held", lambda: work.held(connection, self.pipeline))
            claimed = timed(
                times,
                "claim",
                lambda: work.claim(
                    connection, self.pipeline, Lane.LIVE, lease, limit=rows, max_attempts=5, hints=self.claiming
                ),
            )
        holding = Holding(self.pipeline, lease.id)
        with database.transaction(by_key=True) as connection:
            locked = timed(times, "lock", lambda: holding.lock(connection, claimed))
            timed(
                times,
                "acknowledge",
                lambda: holding.ack(
                    connection, list(locked.values()), stored=len(locked), removed=0, absent=0, unchanged=0
                ),
            )
            timed(times, "end", lambda: holding.end(connection))

    def fill(self, rows: int) -> None:
        """Let so many rows wait."""
        self.add(rows)
        while self.drain(PASSING_ROWS, defaultdict(list)):
            pass

    def pass_through(self, rows: int) -> None:
        for _ in range(0, rows, PASSING_ROWS):
            self.fill(PASSING_ROWS)
            self.process(PASSING_ROWS, defaultdict(list))

    def measure(self, batches: int) -> dict[str, float]:
        times: Times = defaultdict(list)
        for _ in range(batches):
            self.add(BATCH_ROWS)
            self.drain(BATCH_ROWS, times)
            self.due(times)
            self.process(BATCH_ROWS, times)
        medians = {name: statistics.median(values) for name, values in times.items()}
        return {**medians, "batch": sum(medians.values())}


def timed(times: Times, name: str, action: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = action()
    times[name].append(time.perf_counter() - begun)
    return result


@contextmanager
def old_snapshot(database: Database) -> Iterator[None]:
    """Hold a snapshot open, as a long report or a forgotten session does."""
    with database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            connection.execute("SELECT count(*) FROM pgvector_sync.work")
            yield


@dataclass(frozen=True)
class Situation:
    """The seconds per statement of a batch, by name; `batch` is their sum."""

    name: str
    waiting: int
    """The number of rows that wait meanwhile."""
    seconds: dict[str, float]


def situations(
    server: Postgres, endpoint: Endpoint, *, waiting: Sequence[int], through: int, held: int, batches: int
) -> Iterator[Situation]:
    """Measure 10,000 rows waiting; after `through` rows; a snapshot held over `held` rows; each of `waiting`."""
    with new_database(server) as database, pipeline(database, endpoint) as runtime:
        passing = Queue(database, runtime)
        passing.fill(FEW)
        yield Situation(f"{FEW:,} waiting", FEW, passing.measure(batches))
        passing.pass_through(through)
        yield Situation(f"after {through:,} rows", FEW, passing.measure(batches))
        with old_snapshot(database):
            passing.pass_through(held)
            yield Situation(f"snapshot held over {held:,} rows", FEW, passing.measure(batches))
    with new_database(server) as database, pipeline(database, endpoint) as runtime:
        queue, filled = Queue(database, runtime), 0
        for rows in waiting:
            queue.fill(rows - filled)
            filled = rows
            yield Situation(f"{rows:,} waiting", rows, queue.measure(batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, nargs="+", default=[500_000], help="rows that wait, rising")
    parser.add_argument(
        "--through", type=int, default=300_000, help="rows that pass through in the second situation"
    )
    parser.add_argument("--held", type=int, default=200_000, help="rows that pass while a snapshot is held")
    parser.add_argument("--batches", type=int, default=40, help="batches per situation")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    print("milliseconds per statement of 256 rows (ratio to the first line)")
    base: dict[str, float] = {}
    with running_postgres(options.postgres) as server, Endpoint() as endpoint:
        for situation in situations(
            server,
            endpoint,
            waiting=options.waiting,
            through=options.through,
            held=options.held,
            batches=options.batches,
        ):
            base = base or situation.seconds
            parts = (f"{name} {it * 1000:.2f} ({it / base[name]:.1f})" for name, it in situation.seconds.items())
            print(f"{situation.name:34}{', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
