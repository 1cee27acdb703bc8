"""docs/operations.md lists every periodic job with its interval."""

import re
from datetime import timedelta
from pathlib import Path

from pgvector_sync.engine.jobs import ALL

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
UNITS = {"second": timedelta(seconds=1), "minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


def interval(words: str) -> timedelta:
    """The interval that the page calls `minute` or `5 minutes`."""
    number, unit = re.fullmatch(r"(?:(\d+) )?(second|minute|hour)s?", words).groups()
    return int(number or 1) * UNITS[unit]


def test_every_periodic_job_is_listed_with_its_interval():
    section = PAGE.split("## Periodic jobs\n", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", section, re.MULTILINE)
    assert {name: interval(every) for name, every in listed} == {job.name: job.every for job in ALL}
