"""How long a single change waits for its vector while another backlog is processed.

    python benchmarks/fairness.py          about three minutes

There are two pipelines, each with its own provider (an endpoint in a process of its own, 300 ms per call), and one
worker with four slots. `docs` gets a backlog of 100,000 rows in various ways, `notes` gets single changes. Lag is
the time from the commit of a change until its vector can be read. The time of a batch, while the backlog is
processed, is slots · seconds / batches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lag import lags, percentile

from pgvector_sync.store.migrations import migrate
from support.endpoint import ENVIRONMENT
from support.processes import Process, Processes
from support.servers import Database, new_database, running_postgres, running_valkey
from support.waiting import eventually

ROWS = 100_000
SLOTS = 4
LATENCY_MS = 300
TRANSACTION_ROWS = 50
"""Rows per transaction of the live backlog: far below the 500 from which a transaction is a load."""
CONFIG = """
[providers.one]
base_url = "{one}"
api_key_env = "TEST_KEY"

[providers.two]
base_url = "{two}"
api_key_env = "TEST_KEY"

[pipelines.docs]
source = "docs"
text = ["body"]
provider = "one"
model = "text-embedding-3-small"
dimensions = 8

[pipelines.notes]
source = "notes"
text = ["body"]
provider = "two"
model = "text-embedding-3-small"
dimensions = 8
"""
IN_SMALL_TRANSACTIONS = f"""
DO $$ BEGIN
    FOR low IN 1..{ROWS} BY {TRANSACTION_ROWS} LOOP
        INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(low, low + {TRANSACTION_ROWS - 1}) n;
        COMMIT;
    END LOOP;
END $$"""
IN_ONE_TRANSACTION = f"INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, {ROWS}) n"


@dataclass
class Bench:
    database: Database
    processes: Processes
    folder: Path
    urls: dict[str, str]
    changes: int
    number: int = 10_000_000

    def control(self, provider: str, **what: Any) -> None:
        url = self.urls[provider].removesuffix("/v1") + "/_control"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(what).encode(), method="POST")).close()

    def lags(self, table: str, changes: int) -> list[float]:
        self.number += changes
        return lags(self.database, table, self.number - changes, changes)

    def in_batches(self) -> int:
        return int(self.database.value("SELECT count(*) FROM docs_embedding"))

    def empty(self) -> None:
        """Kill the workers and delete their work."""
        for process in self.processes.started[len(self.urls) :]:
            process.kill()
        self.database.execute("TRUNCATE docs, docs_embedding, notes, notes_embedding, pgvector_sync.outbox, "
                              "pgvector_sync.work, pgvector_sync.run")  # fmt: skip
        self.database.execute("UPDATE pgvector_sync.pipeline SET state = 'active', retry_at = NULL, failures = 0")
        for provider in self.urls:
            self.control(provider, heal=True)

    def work(self) -> Process:
        worker = self.processes.command("worker", "--pool", "threads", "--concurrency", str(SLOTS))
        worker.wait_for("relay_elected")
        return worker


def measure(bench: Bench, name: str, table: str, prepare: Callable[[], None]) -> None:
    bench.empty()
    prepare()
    bench.work()
    if bench.database.value("SELECT count(*) > 0 FROM docs"):
        eventually(
            lambda: bench.database.value("SELECT count(*) > 0 FROM pgvector_sync.work WHERE lease IS NOT NULL"), 30
        )
    bench.lags("notes", 1)  # connections are open now
    before, begun = bench.in_batches(), time.perf_counter()
    measured = bench.lags(table, bench.changes)
    seconds, rows = time.perf_counter() - begun, bench.in_batches() - before
    size = 256 if "small" in name else 512
    batch = f"{SLOTS * seconds / (rows / size):8.2f}" if rows > 5 * size else "       -"
    left = bench.database.value("SELECT count(*) FROM pgvector_sync.work") + bench.database.value(
        "SELECT count(*) FROM pgvector_sync.outbox"
    )
    figures = (statistics.median(measured), percentile(measured, 0.95), max(measured))
    print(f"{name:<58}{''.join(f'{figure:8.2f}' for figure in figures)}{batch}{left:10,}", flush=True)


def backfill(bench: Bench) -> None:
    bench.database.execute("ALTER TABLE docs DISABLE TRIGGER USER")
    bench.database.execute(IN_ONE_TRANSACTION)
    bench.database.execute("ALTER TABLE docs ENABLE TRIGGER USER")
    bench.database.execute(
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, rows_total) "
        "SELECT id, 'backfill', %s FROM pgvector_sync.pipeline WHERE name = 'docs'",
        ROWS,
    )


def broken(bench: Bench, **fault: Any) -> None:
    bench.control("one", **fault)
    bench.database.execute(IN_ONE_TRANSACTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=30, help="single changes in each case")
    options = parser.parse_args()
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(18))
        valkey = stack.enter_context(running_valkey())
        database = stack.enter_context(new_database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = Processes(folder, {"DATABASE_URL": database.url, "REDIS_URL": valkey.url, **ENVIRONMENT})
        stack.callback(lambda: [process.kill() for process in processes.started])
        urls = {}
        for provider in ("one", "two"):
            endpoint = processes.start(
                sys.executable,
                str(Path(__file__).parents[1] / "tests" / "support" / "endpoint.py"),
                "--latency-ms",
                str(LATENCY_MS),
            )
            endpoint.wait_for("base_url")
            urls[provider] = json.loads(endpoint.printed.splitlines()[0])["base_url"]
        migrate(database.url)
        database.execute("CREATE TABLE docs (id bigint PRIMARY KEY, body text)")
        database.execute("CREATE TABLE notes (id bigint PRIMARY KEY, body text)")
        (folder / "pgvector-sync.toml").write_text(CONFIG.format(**urls))
        if processes.command("apply", "--yes").wait() != 0:
            raise SystemExit(processes.started.pop().printed)
        processes.started.pop()
        bench = Bench(database, processes, folder, urls, options.changes)
        heads = "".join(f"{head:>8}" for head in ("median", "p95", "max", "batch"))
        print(f"{'single changes of notes, lag in s, while docs …':<58}{heads}{'left':>10}")
        measure(bench, "is idle", "notes", lambda: None)
        measure(
            bench,
            "has a live backlog of many small transactions",
            "notes",
            lambda: database.execute(IN_SMALL_TRANSACTIONS),
        )
        measure(
            bench, "has a bulk backlog (one transaction)", "notes", lambda: database.execute(IN_ONE_TRANSACTION)
        )
        measure(bench, "is backfilled", "notes", lambda: backfill(bench))
        measure(bench, "has a provider that hangs", "notes", lambda: broken(bench, kind="hang", seconds=60))
        measure(
            bench, "has a provider that answers 503", "notes", lambda: broken(bench, kind="status", status=503)
        )
        print("single changes of docs itself, …")
        measure(
            bench,
            "after loading 100,000 rows in one transaction",
            "docs",
            lambda: database.execute(IN_ONE_TRANSACTION),
        )
        measure(bench, "while it is backfilled", "docs", lambda: backfill(bench))


if __name__ == "__main__":
    main()
