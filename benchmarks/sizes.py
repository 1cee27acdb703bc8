"""How many requests endpoints with limits cost: `python benchmarks/sizes.py`, about five minutes.

The endpoints announce no limit. One takes 32 inputs per request, one 10, one has a quota of tokens and answers 429
to any request above it, and one computes request after request on one processor. Rows have 400 bytes, and are
embedded by the loop of `sync`. For the last endpoint four loops run at once, and all times are a tenth of the
defaults: a call may take 3 s, a batch 9 s, and a text takes 20 ms instead of 200.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from declared import pipeline

from pgvector_sync.engine.loop import Loop
from pgvector_sync.runtime import Runtime
from support.limited_endpoint import LimitedEndpoint, SerialEndpoint
from support.servers import Database, new_database, running_postgres
from support.waiting import within

TOKENS_PER_ROW = 101
POLL = timedelta(milliseconds=20)


def stored(database: Database) -> int:
    return database.value("SELECT count(*) FROM docs_embedding")


def run(runtime: Runtime, finished: Callable[[], bool], *, seconds: float, loops: int = 1) -> float:
    """Take turns in so many threads until the end of the seconds, or until it is finished; return the seconds."""
    started = time.monotonic()
    until = within(seconds)

    def turns() -> None:
        Loop(runtime).run(finished=finished, until=until)

    threads = [threading.Thread(target=turns) for _ in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def limited(database: Database, max_inputs: int) -> str:
    with (
        LimitedEndpoint(max_inputs=max_inputs) as endpoint,
        pipeline(database, endpoint, added=6_000, poll=POLL, bulk_batch_size=512, live_batch_size=512) as runtime,
    ):
        loop, batches = Loop(runtime), []
        while len(batches) < 10:
            rows, calls = stored(database), endpoint.calls.requests
            loop.turn()
            if (more := stored(database) - rows) > 0:
                batches.append(f"{endpoint.calls.requests - calls} for {more}")
        return f"{max_inputs} inputs per request: {', '.join(batches)} rows"


def quota(database: Database, seconds: float) -> str:
    with (
        LimitedEndpoint(max_request_tokens=100 * TOKENS_PER_ROW, status=429) as endpoint,
        pipeline(database, endpoint, added=5_000, poll=POLL) as runtime,
    ):
        took = run(runtime, lambda: stored(database) == 5_000, seconds=seconds)
        return (
            f"a quota of 100 rows: {stored(database):,} of 5,000 rows in {took:.0f} s, "
            f"{endpoint.calls.requests} calls, {endpoint.rejected} of them refused"
        )


def serial(database: Database, seconds: float) -> str:
    settings = {"provider_timeout": 3, "deadline": 9, "lease": 5}
    with (
        SerialEndpoint(seconds_per_text=0.02) as endpoint,
        pipeline(database, endpoint, added=20_000, poll=POLL, **settings) as runtime,
    ):
        took = run(runtime, lambda: False, seconds=seconds - 60, loops=4)
        rows = stored(database)
        last = run(runtime, lambda: False, seconds=60, loops=4)
        more = stored(database) - rows
        return (
            f"one processor, 50 rows per second: {rows:,} rows in {took:.0f} s, then {more:,} in {last:.0f} s "
            f"({more / last:.1f}/s); {endpoint.computed:,} texts computed, {endpoint.calls.requests} calls"
        )


CASES: dict[str, Callable[[Database, float], str]] = {
    "32": lambda database, _: limited(database, 32),
    "10": lambda database, _: limited(database, 10),
    "quota": quota,
    "serial": serial,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), choices=[*CASES, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=180, help="the longest time of quota and serial")
    options = parser.parse_args()
    with running_postgres(18) as server:
        for case in options.cases:
            with new_database(server) as database:
                print(CASES[case](database, options.seconds), flush=True)


if __name__ == "__main__":
    main()
