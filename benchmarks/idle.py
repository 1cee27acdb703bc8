"""What a worker and beat cost while nothing changes: statements per second, and CPU as a share of one core.

    python benchmarks/idle.py                     one and ten pipelines, about two minutes

Statements are counted by pg_stat_statements. BEGIN and COMMIT are included, the empty statement with which the
pool checks a connection isn't. The worker is a prefork worker with two processes.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from backfill import postgres_cpu
from deployed import cpu, deployment

from support.servers import Database, Server, running_postgres

SECONDS = 30.0
SETTLE = 10.0
"""How long to wait after the last change, until the pauses between two looks have grown."""
COUNTING = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "on"}
"""The settings of a server whose statements are counted."""


@dataclass(frozen=True)
class Idle:
    """What an idle deployment costs per second."""

    statements: float
    worker: float
    """Seconds of CPU of the worker's processes."""
    beat: float
    postgres: float

    @property
    def ours(self) -> float:
        return self.worker + self.beat


def statements(database: Database) -> int:
    """Return how many statements have run in a database. Asks in another one, so as not to count itself."""
    with database.server.connect() as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        [(calls,)] = connection.execute(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s "
            "JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = %s AND s.toplevel",
            [database.name],
        ).fetchall()
    return int(calls)


def idle(server: Server, *, pipelines: int, seconds: float = SECONDS) -> Idle:
    """Measure an idle deployment on a server with the settings `COUNTING`."""
    with deployment(server, pipelines=pipelines) as running:
        time.sleep(SETTLE)

        def read() -> tuple[float, ...]:
            sources = (statements, postgres_cpu)
            return (
                time.perf_counter(),
                *(source(running.database) for source in sources),
                cpu(running.worker),
                cpu(running.beat),
            )

        before = read()
        time.sleep(seconds)
        elapsed, sent, postgres, worker, beat = (
            after - earlier for after, earlier in zip(read(), before, strict=True)
        )
    return Idle(sent / elapsed, worker / elapsed, beat / elapsed, postgres / elapsed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    print("per second while idle: statements, and CPU in % of a core")
    with running_postgres(18, **COUNTING) as server:
        for pipelines in options.pipelines:
            cost = idle(server, pipelines=pipelines, seconds=options.seconds)
            print(
                f"{pipelines:3} pipeline{'s' if pipelines > 1 else ' '} {cost.statements:6.1f} statements   "
                f"worker and beat {cost.ours:.2%} ({cost.worker:.2%} and {cost.beat:.2%})   "
                f"Postgres {cost.postgres:.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
