"""The schedule: reconciliations begin by themselves, once, however many beats there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from pgvector_sync.engine import schedule
from pgvector_sync.engine.loop import Loop
from pgvector_sync.engine.schedule import as_written, is_due
from pgvector_sync.model import Schedule, in_window
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.store.pipelines import schedule_json, schedule_of
from support.endpoint import Endpoint
from support.servers import Database
from support.synced import DOCS, Synced, open_synced

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = (time(22), time(5))


@pytest.fixture
def synced(
    database: Database, shared: tuple[Endpoint, Embedders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Synced]:
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
        synced.pipeline()
        yield synced


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
    assert schedule_of(schedule_json(given)) == given


def runs(synced: Synced) -> list[tuple[str, bool | None]]:
    return synced.database.execute(
        "SELECT state, (options->>'deep')::boolean FROM pgvector_sync.run WHERE kind = 'reconcile' ORDER BY id"
    )


def look(synced: Synced) -> list[str]:
    """As the next tick does, a minute later."""
    synced.run("UPDATE pgvector_sync.tick SET visible_at = now()")
    return schedule.look(synced.runtime.database, synced.runtime.settings)


def test_a_new_pipeline_is_reconciled_a_day_after_it_was_made_and_deeply_after_a_week(synced: Synced) -> None:
    assert look(synced) == []
    synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours'")
    assert look(synced) == ["docs"]
    assert look(synced) == [], "one is running"
    synced.run("UPDATE pgvector_sync.run SET state = 'finished', started_at = now() - interval '2 days'")
    synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '8 days'")
    assert look(synced) == ["docs"]
    assert runs(synced) == [("finished", None), ("running", True)]


def test_two_beats_ask_once(synced: Synced) -> None:
    synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours'")
    assert look(synced) == ["docs"]
    assert schedule.look(synced.runtime.database, synced.runtime.settings) == []
    assert len(runs(synced)) == 1


def test_a_paused_pipeline_is_left_alone(synced: Synced) -> None:
    synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '25 hours', state = 'paused'")
    assert look(synced) == []


def test_what_the_schedule_asks_for_is_carried_out_gently_and_leaves_its_figures(synced: Synced) -> None:
    synced.declare(reconcile={"every": "1h", "page_rows": 1, "database_share": 0.9})
    synced.apply()
    synced.run("UPDATE pgvector_sync.pipeline SET created_at = created_at - interval '2 hours'")
    assert look(synced) == ["docs"]
    options = synced.database.value("SELECT options FROM pgvector_sync.run WHERE kind = 'reconcile'")
    assert options == {"page_rows": 1, "database_share": 0.9, "orphan_share": 0.2}
    loop = Loop(synced.runtime)
    while runs(synced)[0][0] == "running":
        loop.turn()
    assert synced.database.value("SELECT rows FROM pgvector_sync.drift") == 1


def test_outside_its_window_a_run_waits(synced: Synced) -> None:
    now = synced.database.value("SELECT (now() AT TIME ZONE 'UTC')::timestamp")
    begin, end = (now + HOUR * 2).time().replace(microsecond=0), (now + HOUR * 3).time().replace(microsecond=0)
    synced.run(
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, options) "
        f"SELECT id, 'reconcile', jsonb_build_object('window', jsonb_build_array('{begin}', '{end}')) "
        "FROM pgvector_sync.pipeline"
    )
    synced.settle()
    assert runs(synced) == [("running", None)]
    assert synced.database.value("SELECT visible_at > now() + interval '30 s' FROM pgvector_sync.run WHERE id = 2")


def test_once_an_hour_what_is_old_is_forgotten_and_old_dead_letters_set_aside(synced: Synced) -> None:
    synced.endpoint.fail(status=400, marker="poison")
    synced.run("INSERT INTO docs VALUES (2, 'poison')")
    synced.settle()
    synced.run(
        "UPDATE pgvector_sync.run SET finished_at = now() - interval '31 days'",
        "INSERT INTO pgvector_sync.drift SELECT 1, now() - interval '500 days', 1, false, 0,0,0,0,0,0,0,0,0",
        "UPDATE pgvector_sync.work SET parked_at = now() - interval '91 days'",
    )
    look(synced)
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.run WHERE kind = 'fill'") == 0
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.drift") == 0
    assert synced.dead() == [([2], "input_rejected")], "unless it is wanted, they stay"
    settings = synced.runtime.settings.model_copy(update={"discard_dead_letters_after": timedelta(days=90)})
    synced.run("UPDATE pgvector_sync.tick SET visible_at = now()")
    schedule.look(synced.runtime.database, settings)
    assert synced.dead() == []
    synced.covered()


def test_a_schedule_is_shown_as_one_writes_it() -> None:
    assert as_written(Schedule()) == "default"
    assert as_written(Schedule(every=None, deep_every=timedelta(days=14))) == "every off, deep_every 14d"
    night = Schedule(every=timedelta(hours=36), window=(time(22), time(5)), orphan_share=0.0)
    assert as_written(night) == "every 36h, window 22:00-05:00, orphan_share 0.0"
