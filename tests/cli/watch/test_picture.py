"""The picture of `status --watch`: what it shows, and what it leaves out where there is no room."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from pgvector_sync.cli.watch.canvas import ASCII, Canvas
from pgvector_sync.cli.watch.picture import Scene, picture
from pgvector_sync.cli.watch.words import percent, progress, span
from pgvector_sync.model import State
from pgvector_sync.model.progress import Progress
from pgvector_sync.model.request import Kind
from pgvector_sync.observe.live import Look
from pgvector_sync.observe.status import PipelineStatus
from pgvector_sync.observe.todo import of_pipeline
from pgvector_sync.store.workers import Workers

ALIVE = Workers(2, 3, timedelta(seconds=1), timedelta(seconds=4))
NONE = Workers(0, 0, None, None)


def pipeline(name: str = "articles", **fields: Any) -> PipelineStatus:
    quiet = {
        "source": "public.docs", "target": "public.docs_embedding", "state": State.ACTIVE, "reason": None, "retry_at": None, "rows": 1000,
        "fresh": 1000, "to_backfill": 0, "waiting": 0, "in_flight": 0, "dead": 0, "lag": None, "rows_per_second": 0.0,
        "saved_inputs": 0, "truncated_inputs": 0, "stopped": False, "learned": (), "learned_settings": (),
        "estimated": (),
    }  # fmt: skip
    return PipelineStatus(name=name, **quiet | fields)


def run(**fields: Any) -> Progress:
    usual = {"id": 7, "pipeline": "articles", "kind": Kind.BACKFILL, "rows_done": 250, "rows_total": 1000}
    return Progress(**usual | {"elapsed": timedelta(seconds=50)} | fields)


def shown(
    *pipelines: PipelineStatus,
    workers: Workers = ALIVE,
    runs: tuple[Progress, ...] = (),
    width: int = 110,
    height: int = 40,
    canvas: Canvas | None = None,
    **scene: Any,
) -> list[str]:
    look = Look(workers, pipelines, runs)
    at = datetime(2026, 11, 27, 17, 0, 5, tzinfo=UTC)
    lines = picture(Scene(look, at, timedelta(seconds=2), **scene), canvas or Canvas(width), height=height)
    assert len(lines) <= height
    assert max(cell_len(line.plain) for line in lines) <= (canvas.width if canvas else width)
    return [line.plain for line in lines]


def text(*pipelines: PipelineStatus, **options: Any) -> str:
    return "\n".join(shown(*pipelines, **options))


def test_it_shows_the_figures_of_a_pipeline_and_the_workers():
    working = pipeline(
        state=State.BACKFILLING, fresh=912, waiting=12, in_flight=40, lag=timedelta(seconds=1.2), rows_per_second=120.3,
        estimated=("rows", "fresh"),
    )  # fmt: skip
    lines = shown(working, speeds={"articles": (10, 60, 120)})
    assert lines[0].split() == ["pgvector-sync", "17:00:05", "every", "2", "s,", "q", "quits"]
    assert "2 workers, 3 slots; last beat tick 4 s ago" in lines[1]
    assert lines[-1].split() == [
        "●",
        "articles",
        "backfilling",
        "91",
        "%",
        "█████████░",
        "1.2",
        "s",
        "12",
        "40",
        "0",
        "120.3",
        "▂▅█",
    ]


def test_a_backfill_shows_its_progress_and_the_time_left_at_its_current_speed():
    working = pipeline(state=State.BACKFILLING)
    assert "backfill 7: ██░░░░░░░░ 25 % of 1,000 rows, 2 min left" in text(working, runs=(run(),))
    earlier = run(rows_done=150, elapsed=timedelta(seconds=40))  # 100 rows in the last 10 seconds
    assert "25 % of 1,000 rows, 75 s left" not in text(working, runs=(run(),), earlier={7: earlier})
    assert "25 % of 1,000 rows, 1 min left" in text(working, runs=(run(),), earlier={7: earlier})
    assert "no row done yet" in text(working, runs=(run(rows_done=0),))
    assert "makes no progress" in text(working, runs=(run(),), earlier={7: run(elapsed=timedelta(seconds=20))})
    assert "about to end" in text(working, runs=(run(rows_done=1000),))
    assert "250 rows done" in text(working, runs=(run(rows_total=None),))


@pytest.mark.parametrize(
    ("fields", "words", "advice"),
    [
        ({"state": State.MISCONFIGURED}, "misconfigured", "pgvector-sync resume articles"),
        ({"state": State.COOLING_DOWN}, "cooling down", "it is retried automatically at the next probe"),
        ({"state": State.PAUSED}, "paused", "pgvector-sync resume articles"),
        ({"state": State.REMOVING}, "being removed", "pgvector-sync remove articles"),
        ({"dead": 3}, "active", "pgvector-sync dead-letters list articles"),
        ({"waiting": 1, "lag": timedelta(minutes=6)}, "active", "see what holds it up: pgvector-sync doctor"),
    ],
)
def test_what_is_not_green_says_why_and_what_to_do(fields: dict[str, Any], words: str, advice: str):
    [heading, seen, arrow] = shown(pipeline(**{"reason": "because of the key"} | fields))[-3:]
    assert heading.startswith(("▲ articles", "✗ articles"))
    assert words in heading
    assert advice in arrow
    assert arrow.startswith("  → ")
    if fields.get("state") not in (None, State.REMOVING):
        assert "because of the key" in seen


def test_it_shows_what_the_status_page_shows_in_the_same_words_and_order():
    letters = pipeline("letters", dead=2)
    cooling = pipeline("cooling", state=State.COOLING_DOWN, reason="HTTP 503", waiting=7)
    lines = text(letters, cooling)
    page = [check for status in (cooling, letters) for check in of_pipeline(status, None, workers=True)]
    places = [lines.index(words) for check in page for words in (check.seen, f"→ {check.advice}")]
    assert places == sorted(places)


def test_rows_of_a_running_run_are_expected_to_wait():
    waiting = pipeline(waiting=5, lag=timedelta(minutes=6))
    assert "the oldest change has waited for 6 minutes" in text(waiting)
    assert "the oldest change has waited" not in text(waiting, runs=(run(kind=Kind.REEMBED),))


def test_rows_that_wait_without_a_worker_are_the_first_thing_to_see():
    lines = shown(pipeline(waiting=3), workers=NONE)
    assert lines[1:3] == [
        "✗ no worker is running, and rows wait",
        "  → start a worker: pgvector-sync worker (or, without Redis: pgvector-sync sync)",
    ]


def test_the_worst_come_first_and_what_does_not_fit_is_counted():
    many = [pipeline(f"quiet_{n:02}") for n in range(20)]
    busy = pipeline("busy", waiting=5, lag=timedelta(seconds=3))
    broken = pipeline("zz_broken", state=State.MISCONFIGURED, reason="401")
    paused = pipeline("paused", state=State.PAUSED)
    lines = shown(*many, busy, paused, broken, height=14)
    order = [line.split()[1] for line in lines if re.match(r"[●▲✗] \w+ ", line) and "worker" not in line]
    assert order[:4] == ["zz_broken", "paused", "busy", "quiet_00"]
    hidden = 23 - len(order)
    assert lines[-1] == f"and {hidden} more: {hidden} active"
    assert len(lines) == 14


def test_a_thousand_pipelines_are_a_picture_like_any_other():
    lines = shown(*(pipeline(f"p{n}", dead=n % 3) for n in range(1000)), width=80, height=24)
    assert lines[-1].startswith("and 99")


@pytest.mark.parametrize("width", [200, 80, 60, 40, 24, 12])
@pytest.mark.parametrize("height", [50, 12, 6, 2])
def test_it_fits_any_terminal(width: int, height: int):
    wordy = pipeline("a" * 40, state=State.MISCONFIGURED, reason="word " * 200 + "x" * 300, waiting=10**9)
    lines = shown(
        wordy, pipeline(), runs=(run(),), width=width, height=height, trouble="out of reach: " + "y" * 90
    )
    assert lines[0].startswith("pgvector-sy")
    if width >= 60 and height >= 12:
        assert any(line.startswith("✗ aaaaaa") for line in lines)


def test_a_narrow_terminal_drops_charts_before_figures():
    working = pipeline(fresh=100, waiting=4, in_flight=2, lag=timedelta(seconds=2))
    wide, narrow = text(working, width=110), text(working, width=48)
    assert "█" in wide
    assert "█" not in narrow
    assert all(word in narrow for word in ("articles", "active", "2.0 s", "waiting"))


def test_an_old_picture_says_so():
    lines = shown(pipeline(), trouble="the database is out of reach", age=timedelta(seconds=14))
    assert lines[1] == "✗ the database is out of reach; these figures are 14 s old"


def test_without_unicode_it_is_drawn_in_ascii():
    lines = shown(
        pipeline(fresh=400, dead=1), runs=(run(),), canvas=Canvas(100, ASCII), speeds={"articles": (1, 2)}
    )
    assert "\n".join(lines).isascii()


def test_control_characters_of_a_reason_do_not_reach_the_terminal():
    assert "\x1b" not in text(pipeline(state=State.PAUSED, reason="\x1b[2J"))


def test_an_empty_database_says_what_to_do():
    assert "pgvector-sync apply" in text()


def test_durations_and_shares_in_words():
    spans = [0.04, 9.9, 12, 59.4, 61, 3599, 3600, 7800, 90_000]
    words = ["0.0 s", "9.9 s", "12 s", "59 s", "1 min", "59 min", "1 h", "2 h 10 min", "1 d 1 h"]
    assert [span(timedelta(seconds=n)) for n in spans] == words
    assert [percent(share) for share in (0, 0.005, 0.4567, 0.9899, 0.99996, 1)] == [
        "0 %", "0 %", "45 %", "98 %", "99.9 %", "100 %",
    ]  # fmt: skip
    assert progress(run(rows_done=999, rows_total=1000, elapsed=timedelta(seconds=10))).startswith(
        "99.9 % of 1,000"
    )
