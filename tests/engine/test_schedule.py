"""When a schedule asks for a reconciliation, and how it is stored and shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta

import pytest

from pgvector_sync.engine.schedule import is_due
from pgvector_sync.model import Schedule, in_window

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = (time(22), time(5))


@pytest.mark.parametrize(
    ("given", "ago", "due"),
    [
        (Schedule(), timedelta(hours=23), False),
        (Schedule(), timedelta(hours=24), True),
        (Schedule(every=None), timedelta(days=99), False),
        (Schedule(every=HOUR, window=NIGHT), timedelta(days=2), False),
        (Schedule(every=HOUR, window=(time(11), time(13))), timedelta(hours=2), True),
        (Schedule(cron="30 11 * * *"), timedelta(minutes=31), True),
        (Schedule(cron="30 11 * * *"), timedelta(minutes=29), False),
        (Schedule(cron="30 11 * * *"), timedelta(days=3), True),
        (Schedule(cron="0 12 1 1 *"), timedelta(days=30), False),
    ],
)
def test_one_is_due_by_what_was_done_last(given: Schedule, ago: timedelta, due: bool) -> None:
    assert is_due(given, NOON - ago, NOON) is due


@pytest.mark.parametrize(
    ("hour", "inside"), [(21, False), (22, True), (23, True), (0, True), (4, True), (5, False), (12, False)]
)
def test_a_window_may_span_midnight(hour: int, inside: bool) -> None:
    assert in_window(NIGHT, NOON.replace(hour=hour)) is inside


@pytest.mark.parametrize(
    "given",
    [Schedule(), Schedule(every=None, cron="0 3 * * *", deep_every=None, window=NIGHT, database_share=0.1)],
)
def test_a_schedule_survives_being_stored(given: Schedule) -> None:
    assert Schedule.read(json.loads(json.dumps(given.written()))) == given


def test_a_schedule_is_shown_as_one_writes_it() -> None:
    assert str(Schedule()) == "default"
    assert str(Schedule(every=None, deep_every=timedelta(days=14))) == "every off, deep_every 14d"
    night = Schedule(every=timedelta(hours=36), window=(time(22), time(5)), orphan_share=0.0)
    assert str(night) == "every 36h, window 22:00-05:00, orphan_share 0.0"
