"""How long single changes wait for their vectors: inserted one after the other, each watched until it has one."""

from __future__ import annotations

import time

from support.servers import Database

PATIENCE = 60.0
"""Seconds."""


def lags(database: Database, table: str, first: int, changes: int) -> list[float]:
    """Seconds from the commit of each change to its vector; the rows are `first`, `first` + 1, …"""
    found = []
    with database.connect() as connection:
        for number in range(first, first + changes):
            connection.execute(f"INSERT INTO {table} VALUES (%s, 'change ' || %s)", (number,) * 2)
            committed = time.perf_counter()
            query = f"SELECT FROM {table}_embedding WHERE id = %s"
            while connection.execute(query, (number,)).fetchone() is None:
                if time.perf_counter() - committed > PATIENCE:
                    raise SystemExit(f"a change of {table} got no vector within {PATIENCE:g} s")
                time.sleep(0.002)
            found.append(time.perf_counter() - committed)
    return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
