"""`make bench-check`: compare what a row and an idle second cost with benchmarks/recorded.json.

    python benchmarks/check.py            a minute; exits 1 if a figure is more than 15 % above the recorded one
    python benchmarks/check.py --record   record this run's figures, after a change that is meant to alter them

The figures are counts and ratios of CPU time, never times, so that they mean the same on another machine: the CPU
of Postgres as a multiple of COPY's, and ours as a multiple of a fixed loop's. Other programs only ever add to CPU
time, by displacing caches, so each ratio is that of the least of several rounds. One batch is in flight at a time:
with several, the size of slices, and so the number of round trips, depends on how busy the cores are.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import backfill
import idle
import numpy as np
from calls import counted_calls
from declared import pipeline
from fast_endpoint import FastEndpoint, running_fast_endpoint

from support.servers import Server, new_database, running_postgres

RECORDED = Path(__file__).with_name("recorded.json")
TOLERANCE = 0.15
FIGURES = (
    "CPU of Postgres per row, as a multiple of COPY's",
    "CPU of sync per 1,000 rows, as a multiple of a fixed loop's",
    "round trips per batch",
    "statements per idle second",
)
DIMENSIONS = 1536
IDLE_SECONDS = 15.0
REPEATED = 3
"""How often a round repeats what it compares with."""


def cpu_seconds(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def fixed_loop() -> None:
    """Do what a batch does in Python, without our code: JSON, base64, small objects and arrays."""
    vector = base64.b64encode(np.arange(DIMENSIONS, dtype="<f4").tobytes()).decode()
    answer = json.dumps([{"index": index, "embedding": vector} for index in range(256)])
    for _ in range(10):
        items = {item["index"]: item["embedding"] for item in json.loads(answer)}
        vectors = [np.frombuffer(base64.b64decode(text), "<f4") for text in items.values()]
        norms = np.linalg.norm(np.array(vectors), axis=1)
        _ = [(key, str(key), float(norm)) for key, norm in zip(items, norms, strict=True) for _ in range(20)]


@dataclass(frozen=True)
class Round:
    """The CPU seconds of one backfill by `sync` and of what it is compared with, and its round trips."""

    fixed_loop: float
    copy: float
    ours: float
    postgres: float
    round_trips: float
    """Per batch."""


def one_round(server: Server, endpoint: FastEndpoint, rows: int) -> Round:
    with (
        new_database(server) as database,
        pipeline(database, endpoint, existing=rows, dimensions=DIMENSIONS) as runtime,
    ):
        copied = []
        for _ in range(REPEATED):
            database.execute("DROP TABLE IF EXISTS copied")
            database.execute(f"CREATE TABLE copied (id bigint PRIMARY KEY, embedding vector({DIMENSIONS}))")
            copied.append(backfill.measure(database, lambda: backfill.copy(database, rows)).postgres_cpu)
        with counted_calls() as calls:
            synced = backfill.measure(database, lambda: backfill.sync(runtime, rows, batches=1))
        batches = database.value("SELECT sum(requests) FROM pgvector_sync.usage")
        fixed = min(cpu_seconds(fixed_loop) for _ in range(REPEATED))
        return Round(fixed, min(copied), synced.our_cpu, synced.postgres_cpu, calls.made / float(batches))


def measure(*, rows: int, rounds: int) -> dict[str, float]:
    """Return the figures."""
    with running_postgres(18) as server, running_fast_endpoint() as endpoint:
        measured = [one_round(server, endpoint, rows) for _ in range(rounds)]
    with running_postgres(18, **idle.COUNTING) as server:
        statements = idle.idle(server, pipelines=1, seconds=IDLE_SECONDS).statements

    def least(name: str) -> float:
        return min(getattr(each, name) for each in measured)

    values = (
        least("postgres") / least("copy"),
        least("ours") / rows * 1_000 / least("fixed_loop"),
        statistics.median(each.round_trips for each in measured),
        statements,
    )
    return {name: round(value, 2) for name, value in zip(FIGURES, values, strict=True)}


def regressions(recorded: dict[str, float], measured: dict[str, float]) -> list[str]:
    """Return the names of the figures that are too far above the recorded ones, or that aren't recorded."""
    return [name for name, value in measured.items() if value > recorded.get(name, 0) * (1 + TOLERANCE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="record the figures instead of comparing them")
    options = parser.parse_args()
    measured = measure(rows=options.rows, rounds=options.rounds)
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    print(f"{'recorded':>10}{'measured':>10}")
    for name, value in measured.items():
        print(f"{recorded.get(name, '-'):>10}{value:>10}  {name}")
    if options.record:
        RECORDED.write_text(json.dumps(measured, indent=2) + "\n")
    elif worse := regressions(recorded, measured):
        print(f"more than {TOLERANCE:.0%} above what is recorded: {'; '.join(worse)}")
        print("if the change is meant to cost this, record it: python benchmarks/check.py --record")
        sys.exit(1)


if __name__ == "__main__":
    main()
