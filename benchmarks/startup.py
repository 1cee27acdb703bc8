"""How long commands take to start, beside a Python that does nothing.

    python benchmarks/startup.py                 eleven rounds; less than a minute

Every round starts each command once. The figures are medians of wall time and of CPU time. Compiled modules are
cached, as an installation has them, whatever the environment says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline

from support.endpoint import Endpoint
from support.servers import new_database, running_postgres

OURS = ("-m", "pgvector_sync")
PROGRAMS = {
    "python -c pass": ("-c", "pass"),
    "--help": (*OURS, "--help"),
    "status": (*OURS, "status"),
    "status --help": (*OURS, "status", "--help"),
}


@dataclass(frozen=True)
class Start:
    """The seconds that one program took."""

    elapsed: float
    cpu: float


def start(arguments: tuple[str, ...], environment: dict[str, str], folder: str) -> Start:
    """Run a program to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} exited with {process.returncode}")
    return Start(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime)


@contextmanager
def surroundings(postgres: int) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the environment of a user with one pipeline, and an empty folder."""
    with (
        running_postgres(postgres) as server,
        new_database(server) as database,
        Endpoint() as endpoint,
        pipeline(database, endpoint),
        TemporaryDirectory() as folder,
        TemporaryDirectory() as cache,
    ):
        environment = os.environ | {"DATABASE_URL": database.url, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield environment, folder


def measure(rounds: int, *, postgres: int = 18) -> dict[str, Start]:
    """Return the median start of every program."""
    starts: dict[str, list[Start]] = {name: [] for name in PROGRAMS}
    with surroundings(postgres) as (environment, folder):
        for number in range(rounds + 1):
            for name, arguments in PROGRAMS.items():
                started = start(arguments, environment, folder)
                if number:  # the first round fills the cache of compiled modules
                    starts[name].append(started)
    return {
        name: Start(statistics.median(each.elapsed for each in all_), statistics.median(each.cpu for each in all_))
        for name, all_ in starts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    print(f"{'':16}{'wall':>8}{'CPU':>8}")
    for name, started in measure(options.rounds, postgres=options.postgres).items():
        print(f"{name:16}{started.elapsed:7.2f}s{started.cpu:7.2f}s")


if __name__ == "__main__":
    main()
