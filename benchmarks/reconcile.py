"""Reconciliation and re-embedding of a large table: speed, memory, drift found, and the lag of live changes.

    python benchmarks/reconcile.py                 1,000,000 rows, about six minutes

The table has short texts and a vector of 256 numbers per row, written by SQL. Speeds are medians of rounds that
alternate with a bare scan that computes the same sha256, on one connection. The endpoint costs little CPU, since
live changes would wait for a busy core otherwise.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed import FILE, PIPELINE, PROVIDER, apply
from fast_endpoint import running_fast_endpoint
from lag import lags, percentile

from pgvector_sync.model.deadline import Deadline
from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.migrations import migrate
from pgvector_sync.store.runs import Run
from support.endpoint import ENVIRONMENT
from support.processes import Processes
from support.servers import Database, new_database, running_postgres, running_valkey

DIMENSIONS = 256
ROUNDS = 3
LATENCY_MS = 300
BARE_SCAN = """
SELECT count(sha256('\\x{spec}'::bytea || convert_to(concat_ws(E'\\n\\n', nullif(body, '')), 'UTF8'))) FROM docs
"""


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def make(database: Database, processes: Processes, base_url: str, rows: int) -> None:
    """Create the source, its pipeline, and a vector per row, as after a finished backfill."""
    migrate(database.url)
    database.execute("CREATE TABLE docs (id bigint PRIMARY KEY, body text)")
    database.execute(
        "INSERT INTO docs SELECT n, 'row ' || n || ' says a few words about something or other, and no more' "
        f"FROM generate_series(1, {rows}) n"
    )
    database.execute("VACUUM ANALYZE docs")
    file = PROVIDER.format(base_url=base_url) + PIPELINE.format(table="docs", dimensions=DIMENSIONS)
    (processes.folder / FILE).write_text(file)
    apply(processes)
    with (
        open_runtime(Settings(DATABASE_URL=database.url)) as runtime,
        runtime.database.transaction() as connection,
    ):
        spec = pipelines.require_pipeline(connection, "docs").spec.digest.hex()
    database.execute("DELETE FROM pgvector_sync.run")
    database.execute(
        "INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT id, (SELECT array_agg(random())::vector({DIMENSIONS}) FROM generate_series(1, {DIMENSIONS})), "
        f"sha256('\\x{spec}'::bytea || convert_to(body, 'UTF8')), 'text-embedding-3-small', now() FROM docs"
    )
    database.execute("VACUUM ANALYZE docs_embedding")


def reconciled(runtime: Runtime, *, deep: bool, dry_run: bool) -> Run:
    requested = request_reconcile(runtime.database, "docs", Reconcile(deep=deep, dry_run=dry_run))
    carry_out(runtime, requested.run_id, until=Deadline.after(timedelta(hours=1)))
    return find_run(runtime, requested.run_id)


@dataclass(frozen=True)
class Speed:
    """Seconds of a bare scan and of both kinds of reconciliation: medians of rounds."""

    seconds: dict[str, float]
    memory: tuple[float, float]
    """In MB, after the first round and after the last."""

    def of_bare_scan(self, mode: str) -> float:
        return self.seconds["bare scan"] / self.seconds[mode]


def speed(database: Database, runtime: Runtime) -> Speed:
    with runtime.database.transaction() as connection:
        spec = pipelines.require_pipeline(connection, "docs").spec.digest.hex()
    taken: dict[str, list[float]] = {"bare scan": [], "cheap": [], "deep": []}
    memory = []
    with database.connect() as bare:
        bare.execute("SET max_parallel_workers_per_gather = 0")
        for _ in range(ROUNDS):
            taken["bare scan"].append(seconds(lambda: bare.execute(BARE_SCAN.replace("{spec}", spec))))
            for mode in ("cheap", "deep"):
                taken[mode].append(
                    seconds(lambda mode=mode: reconciled(runtime, deep=mode == "deep", dry_run=True))
                )
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return Speed(medians, (memory[0], memory[-1]))


def show_speed(measured: Speed, rows: int) -> None:
    for name, value in measured.seconds.items():
        share = "" if name == "bare scan" else f"   {measured.of_bare_scan(name):.0%} of the bare scan's speed"
        print(f"{name:12}{value:8.2f} s {rows / value:12,.0f} rows/s{share}")
    first, last = measured.memory
    print(f"memory      {first:.0f} MB at most after the first round, {last:.0f} MB after the last")


def seeded(database: Database, runtime: Runtime, rows: int) -> None:
    """Let every 1,000th row drift in one of six ways, and print whether exactly those are found."""
    every = {
        "missing": "DELETE FROM docs_embedding WHERE id % 6000 = 0",
        "stale": "UPDATE docs SET body = body || '!' WHERE id % 6000 = 1000",
        "orphaned": "DELETE FROM docs WHERE id % 6000 = 2000",
        "wrong_model": "UPDATE docs_embedding SET model = 'older' WHERE id % 6000 = 3000",
        "broken": f"UPDATE docs_embedding SET embedding = '{[0] * DIMENSIONS}' WHERE id % 6000 = 4000",
        "incomplete": "UPDATE docs_embedding SET chunk_no = 1 WHERE id % 6000 = 5000",
    }
    for statement in every.values():
        database.execute(f"SET session_replication_role = replica; {statement}")
    ended = reconciled(runtime, deep=True, dry_run=False)
    enqueued = {key for (key,) in database.execute("SELECT (key->>0)::bigint FROM pgvector_sync.work")}
    expected = set(range(1000, rows + 1, 1000))
    counts = {kind: ended.counts[kind] for kind in every}
    exactly = "exactly those rows are enqueued" if enqueued == expected else "NOT the rows that have drifted"
    print(f"seeded      {len(expected):,} rows: {counts}; {exactly}")
    database.execute("TRUNCATE pgvector_sync.work, pgvector_sync.run, pgvector_sync.outbox")


@dataclass(frozen=True)
class Lags:
    """The seconds that single changes waited for their vectors."""

    idle: list[float]
    busy: list[float]
    """During a full re-embed."""
    done: int
    """How many rows were re-embedded meanwhile."""

    @property
    def p99_ratio(self) -> float:
        return percentile(self.busy, 0.99) / percentile(self.idle, 0.99)


def noticed(database: Database, processes: Processes, rows: int, changes: int, pool: str) -> Lags:
    """Measure the lag of single changes while idle and during a full re-embed."""
    worker = processes.command("worker", "--pool", pool, "--concurrency", "4")
    worker.wait_for("relay_elected")
    lags(database, "docs", rows + 1, 5)  # connections are open now
    idle = lags(database, "docs", rows + 1_000, changes)
    with open_runtime(Settings(DATABASE_URL=database.url)) as runtime:
        requested = request_reembed(runtime.database, "docs", Reembed(force=True))
        while find_run(runtime, requested.run_id).rows_enqueued < 2_000:
            time.sleep(0.1)
        busy = lags(database, "docs", rows + 100_000, changes)
        run = find_run(runtime, requested.run_id)
    return Lags(idle, busy, run.rows_enqueued - run.waiting)


def show_lags(measured: Lags) -> None:
    for name, values in (("idle", measured.idle), ("re-embedding", measured.busy)):
        print(f"lag, {name:14}median {statistics.median(values):.3f} s, p99 {percentile(values, 0.99):.3f} s")
    print(f"            {measured.p99_ratio:.1f} times the p99, while {measured.done:,} rows were re-embedded")


@contextmanager
def table(rows: int) -> Iterator[tuple[Database, Processes]]:
    """Make a table of so many rows with a vector each, and what a worker needs."""
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(18))
        valkey = stack.enter_context(running_valkey())
        database = stack.enter_context(new_database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = Processes(folder, {"DATABASE_URL": database.url, "REDIS_URL": valkey.url, **ENVIRONMENT})
        stack.callback(lambda: [process.kill() for process in processes.started])
        latency = ("--latency-ms", str(LATENCY_MS), "--dimensions", str(DIMENSIONS))
        endpoint = stack.enter_context(running_fast_endpoint(*latency))
        make(database, processes, endpoint.base_url, rows)
        yield database, processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=200, help="single changes whose lag is measured")
    parser.add_argument("--pool", choices=("threads", "prefork"), default="prefork")
    options = parser.parse_args()
    with table(options.rows) as (database, processes):
        with open_runtime(Settings(DATABASE_URL=database.url)) as runtime:
            show_speed(speed(database, runtime), options.rows)
            seeded(database, runtime, options.rows)
        show_lags(noticed(database, processes, options.rows, options.changes, options.pool))


if __name__ == "__main__":
    main()
