"""How fast one walker enqueues a backfill, without workers: `python benchmarks/walker.py`, less than a minute."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runs.run import carry_out
from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store.migrations import migrate
from support.endpoint import ALLOWED_HOSTS, ENVIRONMENT, Endpoint
from support.servers import new_database, running_postgres
from support.synced import DOCS, Synced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with (
        pytest.MonkeyPatch.context() as environment,
        running_postgres(18) as server,
        new_database(server) as database,
        Endpoint() as endpoint,
        TemporaryDirectory() as folder,
    ):
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        migrate(database.url)
        # so high that the walker never waits for workers
        settings = Settings(
            DATABASE_URL=database.url,
            _env_file=None,
            allowed_hosts=ALLOWED_HOSTS,
            bulk_depth_rows=options.rows * 2,
        )
        with open_database(settings, max_connections=4) as opened, closing(Embedders(settings)) as embedders:
            runtime = Runtime(settings, opened, embedders)
            synced = Synced(database, endpoint, runtime, runtime, Path(folder) / "pgvector-sync.toml")
            synced.run(DOCS)
            synced.run(
                f"INSERT INTO docs SELECT i, i || repeat(' word', 80) FROM generate_series(1, {options.rows}) AS i"
            )
            synced.declare()
            synced.apply()
            run_id = database.value("SELECT id FROM pgvector_sync.run WHERE kind = 'backfill'")
            begun = time.perf_counter()
            carry_out(runtime, run_id, until=Deadline.after(timedelta(minutes=5)))
            taken = time.perf_counter() - begun
            enqueued = database.value("SELECT count(*) FROM pgvector_sync.work")
            print(f"{enqueued:,} rows in {taken:.1f} s: {enqueued / taken:,.0f} rows/s")


if __name__ == "__main__":
    main()
