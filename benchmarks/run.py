"""`make bench`: the cost and speed of pgvector-sync, on an embedded Postgres of its own.

Machines differ and are shared, so compare ratios, and medians of several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from pgvector_sync.capture.drain import Drain
from pgvector_sync.declare.apply import apply_plan
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.engine.loop import Loop
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.status import read_status, settled
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import Settings
from pgvector_sync.store.migrations import migrate
from support.servers import Database, new_database, running_postgres

PIPELINE = '[pipelines.docs]\nsource = "docs"\ntext = ["body"]\nprovider = "local"\n'
ROUNDS = 5
ROWS = 20_000


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def make_docs(database: Database, rows: int) -> None:
    database.execute("CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)")
    database.execute(
        f"INSERT INTO docs SELECT n, 'text number ' || n || ' of many' FROM generate_series(1, {rows}) n"
    )
    database.execute("ANALYZE docs")


def apply_pipeline(runtime: Runtime) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pgvector-sync.toml"
        file.write_text(PIPELINE)
        with runtime.database.transaction(force_rollback=True) as connection:
            plan = make_plan(connection, load_config(file))
        apply_plan(runtime.database, plan, say=lambda _: None)


def capture(database: Database, runtime: Runtime) -> None:
    """Measure the cost to the application: the same statements without and with our triggers."""
    statements = {
        "insert": "INSERT INTO docs SELECT n, 'x ' || n FROM generate_series(1000001, 1010000) n",
        "update of the text": "UPDATE docs SET body = body || '.' WHERE id > 1000000",
        "update of another column": "UPDATE docs SET note = 'n' WHERE id > 1000000",
        "delete": "DELETE FROM docs WHERE id > 1000000",
    }

    def measure() -> dict[str, float]:
        taken: dict[str, list[float]] = {name: [] for name in statements}
        with database.connect() as connection:
            for _ in range(ROUNDS):
                for name, statement in statements.items():
                    taken[name].append(seconds(lambda statement=statement: connection.execute(statement)))
                connection.execute("TRUNCATE pgvector_sync.outbox")
        return {name: statistics.median(values) / 10_000 * 1e6 for name, values in taken.items()}

    bare = measure()
    apply_pipeline(runtime)
    captured = measure()
    print("\ncapture, µs per row in statements of 10,000 rows (median of", ROUNDS, "rounds)")
    for name in statements:
        print(f"  {name:26}{bare[name]:7.2f} without {captured[name]:7.2f} with")


def drain(database: Database, runtime: Runtime) -> None:
    database.execute("TRUNCATE pgvector_sync.outbox, pgvector_sync.work")
    database.execute(
        "INSERT INTO pgvector_sync.outbox (source_id, key) SELECT s.id, jsonb_build_array(n) "
        "FROM pgvector_sync.source s, generate_series(1, 200000) n"
    )
    move = Drain(runtime.database, runtime.settings.drain_rows)
    taken = seconds(lambda: move(until=Deadline.after(timedelta(minutes=2))))
    print(f"\ndrain: {200_000 / taken:,.0f} events/s")
    database.execute("TRUNCATE pgvector_sync.work")


def sync(database: Database, runtime: Runtime) -> None:
    database.execute("UPDATE docs SET body = body || ' again'")
    loop = Loop(runtime)
    cpu = time.process_time()
    taken = seconds(lambda: loop.run(finished=lambda: settled(runtime.database, None)))
    cpu = time.process_time() - cpu
    print(
        f"\nsync, one process, local model: {loop.progress.stored / taken:,.0f} rows/s, "
        f"{cpu / loop.progress.stored * 1e6:,.0f} µs of our CPU per row"
    )


def status(database: Database, runtime: Runtime, rows: int) -> None:
    database.execute(f"INSERT INTO docs SELECT n, 'big ' || n FROM generate_series(2000001, {2_000_000 + rows}) n")
    database.execute("ANALYZE docs")
    taken = [seconds(lambda: read_status(runtime.database)) for _ in range(ROUNDS)]
    shown = read_status(runtime.database)[0]
    print(
        f"\nstatus on {shown.rows:,} rows with {rows:,} events waiting: {statistics.median(taken) * 1000:,.0f} ms "
        f"(estimated: {', '.join(shown.estimated)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--status-rows", type=int, default=1_000_000, help="rows for the status figure")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    arguments = parser.parse_args()
    with running_postgres(arguments.postgres) as server, new_database(server) as database:
        migrate(database.url)
        make_docs(database, ROWS)
        with open_runtime(Settings(DATABASE_URL=database.url)) as runtime:
            capture(database, runtime)
            drain(database, runtime)
            sync(database, runtime)
            status(database, runtime, arguments.status_rows)


if __name__ == "__main__":
    main()
