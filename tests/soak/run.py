"""Runs writers, workers and faults on one database, and checks the guarantees continuously: `make soak MINUTES=5`.

Exits with 1 if a guarantee was violated. The same seed, which is printed, gives the same faults but not the same
interleaving.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pgvector import Vector
from pgvector.psycopg import register_vector

sys.path.insert(0, str(Path(__file__).parent.parent))

from asks import Asks, drift_found
from counters import TRIGGERS, Scrapes, differences
from faults import Faults
from schema import SchemaChanges
from watch import WITNESS, Watch
from writers import Writer

from pgvector_sync.database import connect
from pgvector_sync.observe.status import settled
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store import pipelines
from pgvector_sync.store.migrations import migrate
from support.endpoint import ENVIRONMENT, vector_of
from support.processes import Processes
from support.roles import GRANTS_OF_SOURCES, OWNER, set_up_roles
from support.servers import Database, new_database, running_postgres, running_valkey
from support.waiting import eventually

DIMENSIONS = 16
WRITERS = 4
WORKERS = 3
SETTLE_SECONDS = 180
SHORT = {
    "PGVECTOR_SYNC_LEASE": "5",
    "PGVECTOR_SYNC_DEADLINE": "4",
    "PGVECTOR_SYNC_PROVIDER_TIMEOUT": "1.3",
    "PGVECTOR_SYNC_BACKOFF_FIRST": "0.2",
    "PGVECTOR_SYNC_BACKOFF_LONGEST": "2",
    "PGVECTOR_SYNC_ATTEMPTS": "20",
}
"""Shorter waits than in production, so that more happens per minute. More attempts than the default, because random kills
hit the same rows repeatedly, which would otherwise look like rows that crash workers."""
MOST_PER_TEXT = int(SHORT["PGVECTOR_SYNC_ATTEMPTS"]) * 2
"""The limit for sending one text. It is twice the attempts, since a row may get an earlier text again, and `--force`
re-embeds it."""
PIPELINE = """
[providers.test]
base_url = "{base_url}"
api_key_env = "TEST_KEY"

[pipelines.docs]
source = "docs"
text.sql = "body"
provider = "test"
model = "text-embedding-3-small"
dimensions = {dimensions}
batch_size = 64
"""


def wrong_vectors(database: Database) -> Counter[str]:
    """Compares every row with its vector, which must be that of the current text."""
    counts: Counter[str] = Counter()
    with database.connect() as connection:
        register_vector(connection)
        rows = connection.execute(
            "SELECT d.id, d.body, e.id, e.embedding FROM docs d FULL JOIN docs_embedding e USING (id)"
        ).fetchall()
    for source_id, body, stored_id, embedding in rows:
        blank = body is None or not body.strip()
        if source_id is None:
            counts["orphaned"] += 1
        elif stored_id is None:
            counts["missing"] += not blank
        elif blank:
            counts["not wanted"] += 1
        else:
            assert isinstance(embedding, Vector)
            same = np.allclose(embedding.to_numpy(), vector_of(body, DIMENSIONS), atol=1e-6)
            counts["fresh" if same else "stale"] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    arguments = parser.parse_args()
    print(f"soaking for {arguments.minutes:g} minutes on PostgreSQL {arguments.postgres}, seed {arguments.seed}")
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(arguments.postgres))
        valkey = stack.enter_context(running_valkey())
        database = stack.enter_context(new_database(postgres))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        set_up_roles(database)
        database.execute(GRANTS_OF_SOURCES)
        # as the owner, since workers repair dropped triggers here, which a worker's role may not
        environment = {"DATABASE_URL": database.url_as(OWNER), "REDIS_URL": valkey.url, **ENVIRONMENT, **SHORT}
        processes = Processes(folder, environment)
        stack.callback(lambda: [process.kill() for process in processes.started])
        return soak(arguments, postgres, valkey, database, processes, folder)


def soak(arguments, postgres, valkey, database, processes, folder) -> int:
    endpoint = processes.start(
        sys.executable,
        str(Path(__file__).parents[1] / "support" / "endpoint.py"),
        "--port",
        "0",
        "--latency-ms",
        "100",
    )
    endpoint.wait_for(r"base_url")
    base_url = json.loads(endpoint.printed.splitlines()[0])["base_url"]
    migrate(database.url_as(OWNER))
    database.execute("CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)")
    database.execute("INSERT INTO docs SELECT n, 'row ' || n FROM generate_series(0, 1599, 2) n")
    (folder / "pgvector-sync.toml").write_text(PIPELINE.format(base_url=base_url, dimensions=DIMENSIONS))
    assert processes.command("apply", "--yes").wait() == 0
    with connect(database.url) as connection:
        pipeline = pipelines.require_pipeline(connection, "docs")
    database.execute(WITNESS.replace("{spec}", pipeline.spec.digest.hex()))
    database.execute(TRIGGERS)

    control = base_url.removesuffix("/v1") + "/_control"
    faults = Faults(postgres, valkey, database, processes, control, arguments.seed)
    writers = [Writer(database, number, arguments.seed) for number in range(WRITERS)]
    watch = Watch(database, pipeline)
    ours = open_database(Settings(DATABASE_URL=database.url_as(OWNER)), max_connections=2)
    asks = Asks(ours, arguments.seed)
    schema = SchemaChanges(postgres, database, watch, folder, arguments.seed)
    scrapes = Scrapes(ours, database)
    faults.start_workers(WORKERS)
    beat = processes.command("beat")
    for thread in (*writers, watch, faults, asks, schema, scrapes):
        thread.start()
    began = time.monotonic()
    while time.monotonic() - began < arguments.minutes * 60:
        time.sleep(5)
        if beat.exit_code is not None:
            beat = processes.command("beat")
        written = sum(sum(writer.counts.values()) for writer in writers)
        print(f"  {time.monotonic() - began:5.0f} s: {written:,} writes, {watch.checks:,} checks", flush=True)
    schema.stopping.set()
    schema.join(150)  # workers repair its last change while faults continue
    for thread in (faults, asks, *writers):
        thread.stopping.set()
    for thread in (faults, asks, *writers):
        thread.join(30)
    postgres.start()
    valkey.start()
    stopped = time.monotonic()
    ended = _settle(database)
    settle_seconds = time.monotonic() - stopped
    watch.stopping.set()
    watch.join(10)
    scrapes.stopping.set()
    scrapes.join(10)
    paid = json.load(urllib.request.urlopen(base_url.removesuffix("/v1") + "/_calls", timeout=10))
    return report(
        postgres,
        database,
        faults,
        asks,
        schema,
        writers,
        watch,
        scrapes,
        paid,
        ended=ended,
        settle_seconds=settle_seconds,
    )


def _settle(database: Database) -> bool:
    with open_database(Settings(DATABASE_URL=database.url)) as ours:
        try:
            eventually(lambda: settled(ours, None), SETTLE_SECONDS, what="everything is settled")
        except AssertionError as error:
            print(error)
            return False
    return True


def report(
    postgres, database, faults, asks, schema, writers, watch, scrapes, paid, *, ended: bool, settle_seconds: float
) -> int:
    writes: Counter[str] = sum((writer.counts for writer in writers), Counter())
    states: Counter[str] = sum((writer.sqlstates for writer in writers), Counter())
    vectors = wrong_vectors(database)
    witnessed = database.value("SELECT count(*) FROM witnessed")
    dead = database.execute("SELECT error_class, count(*) FROM pgvector_sync.work GROUP BY 1")
    inexact = differences(scrapes.ours, database, paid["requests"])
    scrapes.ours.close()
    deadlocks = len(postgres.logged("deadlock detected"))
    bad = {
        "G1: keys not covered": len(watch.violations),
        "G2: stale vectors at a commit": witnessed - schema.stale_meant,
        "stale at the end": vectors["stale"],
        "missing at the end": vectors["missing"],
        "orphaned at the end": vectors["orphaned"],
        "not wanted at the end": vectors["not wanted"],
        "G11: not settled": int(not ended),
        "reported as drift without cause": max(0, drift_found(database) - schema.drift_meant),
        "G14: a text paid for too often": max(0, paid["most_per_text"] - MOST_PER_TEXT),
        "G15: a change of the schema": len(schema.failures),
        "deadlocks in the server's log": deadlocks,
        "counters that fell": len(scrapes.fallen),
        "counters that aren't exact": len(inexact),
    }
    print("\nwrites           ", dict(writes))
    print("refused writes   ", dict(states))
    print("faults           ", dict(faults.counts))
    runs = database.execute("SELECT kind, state, count(*) FROM pgvector_sync.run GROUP BY 1, 2 ORDER BY 1, 2")
    print("schema changes   ", dict(schema.counts), *schema.failures)
    print("requests         ", dict(asks.counts))
    print("paid for         ", f"{paid['inputs']:,} inputs, each text at most {paid['most_per_text']} times")
    print("runs             ", ", ".join(f"{count} {kind} {state}" for kind, state, count in runs))
    print("checks of G1     ", watch.checks)
    print("fresh at the end ", vectors["fresh"], f"(settled {settle_seconds:.1f} s after the last write)")
    print("left in work     ", dict(dead))
    print("scrapes          ", scrapes.count, *scrapes.fallen[:10])
    for what, (counted, true) in inexact.items():
        print(f"counted {what}: {counted:g}, expected {true:g}")
    for what, count in bad.items():
        print(f"{what:32}{count}")
    violations = sum(bad.values())
    print(f"\n{'no violation' if not violations else f'{violations} VIOLATIONS'}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
