"""The impact on an application that writes the rows being embedded, with an HNSW index on the target.

    python benchmarks/neighbour.py --seconds 40        about four minutes, of which 40 s in each case

Writers in a process of their own update, delete and reinsert a few hundred rows, in READ COMMITTED and in stricter
transactions. Each has its own rows, so they don't block or abort each other. Four cases alternate in short rounds,
so that all have the same noise:

    no pipeline   a table without triggers
    paused        triggers, and a worker while the pipeline is paused
    elsewhere     the same, while the worker processes another pipeline: the cost of a busy processor
    draining      the worker embeds the rows that are being written

The difference between draining and elsewhere is the cost of locks. They are also counted: the share of time that
writers wait for a lock of ours, sampled from `pg_stat_activity` every few milliseconds, and the waits beyond
deadlock_timeout (100 ms) in the server's log. The exit code is 1 if there was a deadlock, or a serialization
failure that the table without triggers doesn't have.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import psycopg
from deployed import FILE, PIPELINE, PROVIDER, apply

from pgvector_sync.observe.status import settled
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.migrations import migrate
from support.endpoint import ENVIRONMENT
from support.processes import Processes
from support.servers import Database, new_database, running_postgres, running_valkey
from support.waiting import eventually

DIMENSIONS = 1_536
HOT_ROWS = 320
"""Rows that are written again and again."""
LEVELS = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""The isolation level of each writer."""
PAUSE = 0.008
"""Seconds between two transactions of a writer."""
ROUND = 5.0
LATENCY_MS = 50
CASES = {"no pipeline": "plain", "paused": "docs", "elsewhere": "docs", "draining": "docs"}
"""The table that is written, by case."""
SAMPLE = """
SELECT a.pid, a.application_name = 'pgvector-sync' AS ours, a.xact_start,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 * 1000 AS age,
       a.xact_start IS NOT NULL AND a.backend_xid IS NOT NULL AND
       EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.mode = 'RowExclusiveLock' AND l.granted
               AND l.relation = ANY (ARRAY['docs_embedding', 'other_embedding']::regclass[])) AS writes,
       CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) END AS blockers,
       (SELECT extract(epoch FROM clock_timestamp() - min(l.waitstart))::float8 * 1000
        FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted) AS waited
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.application_name IN ('pgvector-sync', 'application')
"""


@dataclass
class Writes:
    """The milliseconds of transactions, by kind, and the SQLSTATEs of failures."""

    took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    states: Counter[str] = field(default_factory=Counter)

    def add(self, other: Writes) -> None:
        self.states += other.states
        for kind, times in other.took.items():
            self.took[kind] += times


def write(url: str, table: str, seconds: float, seed: int) -> Writes:
    """Run one round of all writers in this process."""
    end = time.monotonic() + seconds
    writes = Writes()
    with ThreadPoolExecutor(len(LEVELS)) as pool:
        for result in pool.map(lambda n: _writer(url, table, n, end, random.Random(seed + n)), range(len(LEVELS))):
            writes.add(result)
    return writes


def _writer(url: str, table: str, number: int, end: float, chance: random.Random) -> Writes:
    writes, level = Writes(), LEVELS[number]
    mine = range(number, HOT_ROWS, len(LEVELS))
    strict = "" if level == "READ COMMITTED" else ", strict"

    def transaction(kind: str, *statements: tuple[str, list[object]]) -> None:
        begun = time.perf_counter()
        try:
            with connection.transaction():
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                for statement, values in statements:
                    connection.execute(statement, values)
            writes.took[kind].append((time.perf_counter() - begun) * 1000)
        except psycopg.errors.OperationalError as error:  # of a server that runs: 40001 and 40P01
            writes.states[error.sqlstate or "lost"] += 1

    with psycopg.connect(url, autocommit=True, application_name="application") as connection:
        connection.prepare_threshold = 0
        while time.monotonic() < end:
            if chance.random() < 0.5:
                change = f"UPDATE {table} SET body = %s WHERE id = %s"
                transaction(f"update{strict}", (change, [_text(chance), chance.choice(mine)]))
            else:
                keys = chance.sample(mine, chance.randint(1, 4))  # in random order, which is what causes deadlocks
                transaction(f"delete{strict}", *((f"DELETE FROM {table} WHERE id = %s", [key]) for key in keys))
                again = f"INSERT INTO {table} VALUES (%s, %s) ON CONFLICT DO NOTHING"
                transaction("insert", *((again, [key, _text(chance)]) for key in keys))
            time.sleep(PAUSE)
    return writes


def _text(chance: random.Random) -> str:
    return f"text {chance.getrandbits(60)}"


@dataclass
class Seen:
    """What the samples of one case show."""

    samples: int = 0
    waiting: int = 0
    """Writers that waited for a lock of ours, summed over the samples."""
    longest_wait: float = 0.0
    slices: dict[tuple[int, object], float] = field(default_factory=dict)
    """The greatest age seen of each of our transactions that write to a target, in ms."""


class Sampler(threading.Thread):
    """Samples all sessions for the current case."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.seen = Seen()
        self.stopping = threading.Event()

    def run(self) -> None:
        with psycopg.connect(self.url, autocommit=True, application_name="sampler") as connection:
            while not self.stopping.wait(0.002):
                self._note(connection.execute(SAMPLE).fetchall(), self.seen)

    def _note(self, rows: list[tuple], seen: Seen) -> None:
        ours = {pid for pid, is_ours, *_ in rows if is_ours}
        seen.samples += 1
        for pid, is_ours, begun, age, writes, blockers, waited in rows:
            if is_ours and writes:
                seen.slices[pid, begun] = max(age, seen.slices.get((pid, begun), 0.0))
            elif not is_ours and blockers and ours & set(blockers):
                seen.waiting += 1
                seen.longest_wait = max(seen.longest_wait, waited or 0.0)


@dataclass
class Case:
    """Everything that the rounds of one case have come to."""

    writes: Writes = field(default_factory=Writes)
    seen: Seen = field(default_factory=Seen)
    seconds: float = 0.0
    log_waits: int = 0
    log_deadlocks: int = 0
    cancelled: int = 0
    """Slices that took too long, and were cut."""
    stored: int = 0
    """Vectors that a round has left behind: of a row that was embedded twice, the last."""


@dataclass
class Bench:
    database: Database
    sampler: Sampler
    writers: ProcessPoolExecutor
    rows: int

    def case(self, name: str, seconds: float, into: Case, seed: int) -> None:
        """One round."""
        self._only({"elsewhere": "other", "draining": "docs"}.get(name))
        waits, deadlocks, cancelled = self._logged()
        self.sampler.seen = into.seen
        begun, since = time.monotonic(), self.database.value("SELECT now()")
        running = self.writers.submit(write, self.database.url, CASES[name], seconds, seed)
        while not running.done():
            if name == "elsewhere":
                self._feed()
            time.sleep(0.05)
        into.writes.add(running.result())
        into.seconds += time.monotonic() - begun
        self.sampler.seen = Seen()
        after = self._logged()
        into.log_waits += after[0] - waits
        into.log_deadlocks += after[1] - deadlocks
        into.cancelled += after[2] - cancelled
        for target in ("docs_embedding", "other_embedding"):
            into.stored += self.database.value(f"SELECT count(*) FROM {target} WHERE embedded_at >= %s", since)

    def _only(self, name: str | None) -> None:
        """Resume one pipeline and pause the other; return once no batch is in flight."""
        with open_database(Settings(DATABASE_URL=self.database.url)) as database:
            for pipeline in ("docs", "other"):
                act = pipelines.resume if pipeline == name else lambda c, n: pipelines.pause(c, n, "benchmark")
                database.retry_on_lock_conflict(lambda c, act=act, pipeline=pipeline: act(c, pipeline))
        leased = (
            "SELECT count(*) FROM pgvector_sync.work w JOIN pgvector_sync.pipeline p ON p.id = w.pipeline_id "
            "WHERE w.lease IS NOT NULL AND p.state = 'paused'"
        )
        eventually(lambda: self.database.value(leased) == 0, 30, what="batches of paused pipelines have ended")

    def _feed(self) -> None:
        """Keep the other pipeline busy with single changes like those of the writers."""
        if (
            self.database.value(
                "SELECT count(*) FROM pgvector_sync.work w WHERE w.pipeline_id = "
                "(SELECT id FROM pgvector_sync.pipeline WHERE name = 'other')"
            )
            < 200
        ):
            low = random.randrange(self.rows)
            self.database.execute(
                "UPDATE other SET body = 'text ' || random() WHERE id >= %s AND id < %s", low, low + 100
            )

    def _logged(self) -> list[int]:
        patterns = ("application .*still waiting", "deadlock detected", "pgvector-sync .*due to statement timeout")
        return [len(self.database.server.logged(pattern)) for pattern in patterns]


def percentiles(times: list[float] | object) -> str:
    values = list(times)
    if not values:
        return f"{'-':>7}{'-':>7}{'-':>7}"
    return "".join(f"{value:7.1f}" for value in (*np.percentile(values, [50, 99]), max(values)))


def report(cases: dict[str, Case]) -> bool:
    """Print the table; return False if we have aborted a transaction of the application."""
    kinds = ("update", "delete", "update, strict", "delete, strict")
    three = f"{'p50':>7}{'p99':>7}{'max':>7}"
    print("\nmilliseconds of the application's transactions (strict: REPEATABLE READ and SERIALIZABLE)")
    print(f"{'':13}" + "".join(f"{kind:>21}" for kind in kinds) + f"{'':>8}{'':>7}{'':>7}")
    print(f"{'':13}" + three * len(kinds) + f"{'tx/s':>8}{'40001':>7}{'40P01':>7}")
    for name, case in cases.items():
        count = sum(map(len, case.writes.took.values()))
        print(
            f"{name:13}"
            + "".join(percentiles(case.writes.took[kind]) for kind in kinds)
            + f"{count / case.seconds:8.0f}{case.writes.states['40001']:7}{case.writes.states['40P01']:7}"
        )
    print("\nlocks: writers waiting for ours, and our transactions that write to a target, in ms")
    print(
        f"{'':13}{'waiting':>9}{'longest':>9}{'>100 ms':>9}{'deadlocks':>11}"
        f"{'slices':>8}{three}{'cut':>6}{'rows/s':>8}{'samples/s':>11}"
    )
    for name, case in cases.items():
        share = case.seen.waiting / max(1, case.seen.samples * len(LEVELS))
        print(
            f"{name:13}{share:9.2%}{case.seen.longest_wait:9.1f}{case.log_waits:9}{case.log_deadlocks:11}"
            f"{len(case.seen.slices):8}{percentiles(case.seen.slices.values())}"
            f"{case.cancelled:6}{case.stored / case.seconds:8.0f}{case.seen.samples / case.seconds:11.0f}"
        )
    caused = cases["draining"].writes.states - cases["no pipeline"].writes.states
    deadlocks = sum(case.log_deadlocks for case in cases.values())
    print(f"\ncaused by draining: {caused['40001']} serialization failures, {deadlocks} deadlocks")
    return not (caused.total() or deadlocks)


@contextmanager
def bench(rows: int, pool: str, major: int) -> Iterator[tuple[Bench, float]]:
    """Start everything and fill and index both targets; yield the longest slice since then, in ms."""
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(major))
        valkey = stack.enter_context(running_valkey())
        database = stack.enter_context(new_database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {"DATABASE_URL": database.url, "REDIS_URL": valkey.url, **ENVIRONMENT}
        processes = Processes(folder, environment)
        stack.callback(lambda: [process.kill() for process in processes.started])
        script = str(Path(__file__).parents[1] / "tests" / "support" / "endpoint.py")
        endpoint = processes.start(sys.executable, script, "--latency-ms", str(LATENCY_MS))
        endpoint.wait_for("base_url")
        base_url = json.loads(endpoint.printed.splitlines()[0])["base_url"]
        migrate(database.url)
        for table in ("plain", "docs", "other"):
            database.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text)")
            database.execute(f"INSERT INTO {table} SELECT n, 'row ' || n FROM generate_series(0, {rows - 1}) n")
        declared = (PIPELINE.format(table=name, dimensions=DIMENSIONS) for name in ("docs", "other"))
        (folder / FILE).write_text(PROVIDER.format(base_url=base_url) + "".join(declared))
        apply(processes)
        for command in (["worker", "--pool", pool, "--concurrency", "2"], ["beat"]):
            processes.command(*command)
        with open_database(Settings(DATABASE_URL=database.url)) as own:
            eventually(lambda: settled(own, None), 300, what="the backfills have ended")
        print(f"filled; indexing twice {rows:,} vectors of {DIMENSIONS:,} dimensions", flush=True)
        with database.connect() as connection:
            connection.execute("SET maintenance_work_mem = '512MB'")
            for table in ("docs_embedding", "other_embedding"):
                connection.execute(f"CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)")
            connection.execute("VACUUM ANALYZE")
        sampler = Sampler(database.url)
        sampler.start()
        stack.callback(sampler.stopping.set)
        writers = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        running = Bench(database, sampler, writers, rows)
        warm_up = Case()
        running.case("draining", ROUND, warm_up, 0)
        yield running, max(warm_up.seen.slices.values(), default=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="in each case")
    parser.add_argument("--rows", type=int, default=8_000, help="in each of the two targets")
    parser.add_argument("--pool", choices=("threads", "prefork"), default="prefork")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    cases = {name: Case() for name in CASES}
    with bench(options.rows, options.pool, options.postgres) as (running, first):
        for number in range(max(1, round(options.seconds / ROUND))):
            for name, case in cases.items():
                running.case(name, ROUND, case, number * 100)
    good = report(cases)
    print(f"longest slice right after the index was built: {first:.0f} ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
