"""The table in docs/deploy.md that counts workers, slots, connections and cores follows from the measured figures."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from pgvector_sync.runtime.bootstrap import OTHER_CONNECTIONS
from pgvector_sync.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
SECONDS_PER_CALL = 0.5
RELAY_CONNECTIONS = 1
ROW = re.compile(
    r"^\| ([\d,]+) \| (\d+) \| (\d+) \S (\d+) \| (\d+) \| ([\d.]+), ([\d.]+) \| (\d+) MB \|$", re.MULTILINE
)
ROWS = ROW.findall((DOCS / "deploy.md").read_text("utf-8"))


def costs() -> tuple[float, float]:
    """Seconds of CPU per row, of a worker and of Postgres, in docs/scaling.md."""
    match = re.search(
        r"CPU per row of a worker and of Postgres.*\| (\d+) µs and (\d+) µs",
        (DOCS / "scaling.md").read_text("utf-8"),
    )
    assert match
    return int(match[1]) / 1e6, int(match[2]) / 1e6


def test_the_table_is_found() -> None:
    assert len(ROWS) == 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_follows_from_the_formulas(row: tuple[str, ...]) -> None:
    rate = int(row[0].replace(",", ""))
    calls, workers, slots, connections = map(int, row[1:5])
    of_worker, of_postgres = costs()
    assert calls == math.ceil(rate * SECONDS_PER_CALL / Settings(_env_file=None).live_batch_size)
    assert workers * slots >= calls
    assert workers >= 2
    assert connections == workers * (slots + OTHER_CONNECTIONS + RELAY_CONNECTIONS)
    assert (float(row[5]), float(row[6])) == (round(rate * of_worker, 2), round(rate * of_postgres, 2))
