"""How well workers share a provider's limit: calls refused, and how much of the limit is used.

    python benchmarks/budget.py            about 100 seconds

Four processes of six threads each embed as fast as the budget allows, against an endpoint that counts for itself
and answers 429 with Retry-After. It allows five seconds' worth of its limit at once, far less than real providers
(a minute's worth) and little more than the budget's burst. One thread in six uses the live lane, with a few texts
at most five times per second; the others use bulk and need more than the limit. The first eight seconds aren't
measured, since the burst would distort the share.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import redis

from pgvector_sync.embedding import dialects
from pgvector_sync.embedding.embedder import open_embedder
from pgvector_sync.errors import OutOfTime, RateLimited, Unavailable
from pgvector_sync.model import Lane, Provider, Spec
from pgvector_sync.settings import Settings
from support.endpoint import ALLOWED_HOSTS, ENVIRONMENT, Endpoint, Limit
from support.servers import running_valkey
from support.waiting import within

PROCESSES = 4
WARM_UP = 8.0
SPEC = Spec("text-embedding-3-small", 8)
LANES = (Lane.LIVE, *[Lane.BULK] * 5)
"""The lanes of a process's threads."""
LIVE_TEXTS = (1, 4)
LIVE_PAUSE = 0.2
WORDS = Path(__file__).read_text("utf-8").split()


@dataclass(frozen=True)
class Case:
    name: str
    limit: int
    requests: bool
    texts: tuple[int, int]
    """The minimum and maximum number of texts per batch."""
    words: tuple[int, int] = (40, 120)
    """The minimum and maximum number of words per text."""


CASES = (
    Case("requests", 3_000, requests=True, texts=(1, 8)),
    Case("tokens", 6_000_000, requests=False, texts=(50, 70)),
    Case("tokens, mixed sizes", 4_000_000, requests=False, texts=(1, 200)),
)


def provider_of(case: Case, base_url: str) -> Provider:
    limit = {"requests_per_minute" if case.requests else "tokens_per_minute": case.limit}
    return Provider(f"bench-{case.name}", base_url=base_url, api_key_env="TEST_KEY", **limit)


def work(case: Case, base_url: str, redis_url: str, until: float) -> dict[Lane, list[float]]:
    """Embed in this process until `until` (of `time.time()`); return the seconds of each call, by lane."""
    settings = Settings(
        _env_file=None,
        REDIS_URL=redis_url,
        DATABASE_URL="postgresql:///benchmark",
        allowed_hosts=ALLOWED_HOSTS,
    )
    embedder = open_embedder(provider_of(case, base_url), settings, ENVIRONMENT)
    took: dict[Lane, list[float]] = {Lane.LIVE: [], Lane.BULK: []}

    def loop(lane: Lane) -> None:
        while time.time() < until:
            texts = [
                " ".join(random.choices(WORDS, k=random.randint(*case.words)))
                for _ in range(random.randint(*(LIVE_TEXTS if lane is Lane.LIVE else case.texts)))
            ]
            begun = time.monotonic()
            try:
                embedder.embed(texts, SPEC, deadline=within(max(1.0, until - time.time())), lane=lane)
                took[lane].append(time.monotonic() - begun)
            except RateLimited as error:
                wait = error.retry_after.total_seconds() if error.retry_after else 1.0
                time.sleep(min(wait, max(0.0, until - time.time())))
            except (OutOfTime, Unavailable):  # the end came during the call
                break
            if lane is Lane.LIVE:
                time.sleep(LIVE_PAUSE)

    with ThreadPoolExecutor(len(LANES)) as pool:
        list(pool.map(loop, LANES))
    embedder.close()
    return took


def ready(_: int) -> None:
    """Start a process and import what takes seconds, before anything is measured."""
    dialects.preload()
    time.sleep(1)


def measure(case: Case, redis_url: str, seconds: float) -> bool:
    """Measure and print one case; return whether it meets the documented numbers."""
    with Endpoint(latency=0.1) as endpoint, ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        minute = {"requests_per_minute" if case.requests else "tokens_per_minute": case.limit}
        endpoint.limit = Limit(**minute)
        list(pool.map(ready, range(PROCESSES)))
        end = time.time() + WARM_UP + seconds
        running = [pool.submit(work, case, endpoint.base_url, redis_url, end) for _ in range(PROCESSES)]
        time.sleep(WARM_UP)
        begun, before = time.monotonic(), dict(endpoint.calls.totals)
        time.sleep(end - time.time())
        lasted, after = time.monotonic() - begun, dict(endpoint.calls.totals)
        calls, refused = endpoint.calls.requests, endpoint.calls.refused
        took = [future.result() for future in running]
    counted = "requests" if case.requests else "tokens"
    used = (after[counted] - before[counted]) / (case.limit / 60 * lasted)
    waits = {lane: [seconds for process in took for seconds in process[lane]] for lane in Lane}
    means = {lane: statistics.mean(times) if times else float("nan") for lane, times in waits.items()}
    print(
        f"{case.name:<22}{case.limit:>10,}{calls:>8,}{refused / calls:>9.2%}{used:>9.1%}"
        f"{means[Lane.LIVE]:>11.2f}{means[Lane.BULK]:>11.2f}",
        flush=True,
    )
    return refused / calls < 0.01 and used >= 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="measured in each case")
    parser.add_argument("--case", help="only the cases whose name contains this")
    options = parser.parse_args()
    print(f"{'bound by':<22}{'limit/min':>10}{'calls':>8}{'refused':>9}{'used':>9}{'live, s':>11}{'bulk, s':>11}")
    good = True
    with running_valkey() as valkey:
        for case in CASES:
            if options.case is None or options.case in case.name:
                with redis.Redis.from_url(valkey.url) as client:
                    client.flushall()
                good &= measure(case, valkey.url, options.seconds)
    sys.exit(not good)


if __name__ == "__main__":
    main()
