"""How long single changes wait for their vectors.

Changes are inserted one by one, each after the previous vector.
"""

from __future__ import annotations

import time

from support.servers import Database

TIMEOUT = 60.0
"""Seconds to wait for a vector."""


def lags(database: Database, table: str, first: int, changes: int) -> list[float]:
    """Return the seconds from the commit of each change to its vector. The rows are `first`, `first` + 1, …"""
    seconds = []
    with database.connect() as connection:
        for number in range(first, first + changes):
            connection.execute(f"INSERT INTO {table} VALUES (%s, 'change ' || %s)", (number,) * 2)
            committed = time.perf_counter()
            query = f"SELECT FROM {table}_embedding WHERE id = %s"
            while connection.execute(query, (number,)).fetchone() is None:
                if time.perf_counter() - committed > TIMEOUT:
                    raise SystemExit(f"a change of {table} got no vector within {TIMEOUT:g} s")
                time.sleep(0.002)
            seconds.append(time.perf_counter() - committed)
    return seconds


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
