"""What a run's row holds is a typed request, or the run fails and says why: rows can be written by hand."""

from __future__ import annotations

import json
from datetime import time as time_of_day
from typing import Any

import pytest

from pgvector_sync.errors import Refused
from pgvector_sync.model.request import (
    Backfill,
    Kind,
    Reconcile,
    Reembed,
    Request,
    Unreadable,
    options_of,
    read_request,
)
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import run
from support.steps import Steps
from support.waiting import within

NIGHT = (time_of_day(22), time_of_day(5, 30))


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (Backfill(), {}),
        (Reembed(), {}),
        (Reembed(where="id < 3", force=True), {"where": "id < 3", "force": True}),
        (
            Reembed(keys=True, stale_only=True, rows_per_second=0.5),
            {"keys": True, "stale_only": True, "rows_per_second": 0.5},
        ),
        (Reconcile(), {"database_share": 1.0}),
        (
            Reconcile(deep=True, dry_run=True, accept_orphans=True, page_rows=7, database_share=0.5, window=NIGHT),
            {
                "deep": True,
                "dry_run": True,
                "accept_orphans": True,
                "page_rows": 7,
                "database_share": 0.5,
                "window": ["22:00:00", "05:30:00"],
            },
        ),
    ],
)
def test_a_request_is_read_back_as_it_was_written(request_: Request, options: dict[str, Any]) -> None:
    assert options_of(request_) == options
    assert read_request(request_.kind, json.loads(json.dumps(options))) == request_


WRONG: list[tuple[Kind, Any, str]] = [
    (Kind.REEMBED, [["where"]], "options: expected an object"),
    (Kind.REEMBED, None, "options: expected an object"),
    (Kind.REEMBED, {"wher": "id = 1"}, "options.wher: unknown option"),
    (Kind.REEMBED, {"where": 5}, "options.where: expected a valid string"),
    (Kind.REEMBED, {"where": "true", "keys": True}, "options: expected a condition or keys, got both"),
    (Kind.REEMBED, {"force": "yes"}, "options.force: expected a valid boolean"),
    (Kind.REEMBED, {"force": 1}, "options.force: expected a valid boolean"),
    (Kind.REEMBED, {"rows_per_second": "fast"}, "options.rows_per_second: expected a valid number"),
    (Kind.REEMBED, {"rows_per_second": 0}, "options: expected 0.01 or more rows per second, got 0"),
    (Kind.REEMBED, {"rows_per_second": float("inf")}, "options.rows_per_second: expected a finite number"),
    (Kind.REEMBED, {"deep": True}, "options.deep: unknown option"),
    (Kind.RECONCILE, {"page_rows": 0}, "options: expected page_rows of 1 or more, got 0"),
    (Kind.RECONCILE, {"page_rows": 1.5}, "options.page_rows: expected a valid integer"),
    (Kind.RECONCILE, {"page_rows": True}, "options.page_rows: expected a valid integer"),
    (Kind.RECONCILE, {"database_share": 0}, "options: expected a database_share above 0 and at most 1, got 0"),
    (Kind.RECONCILE, {"window": ["22:00"]}, "options.window.1: Field required"),
    (Kind.RECONCILE, {"window": ["22:00", "late"]}, "options.window.1: expected in a valid time format"),
]


@pytest.mark.parametrize(("kind", "options", "reason"), WRONG)
def test_what_is_no_request_says_why(kind: Kind, options: Any, reason: str) -> None:
    found = read_request(kind, options)
    assert isinstance(found, Unreadable)
    assert found.reason.startswith(reason)


def test_a_backfill_is_carried_out_whatever_its_row_says() -> None:
    """Coverage counts on it (G1)."""
    for options in (None, [1], {"where": "false"}):
        assert read_request(Kind.BACKFILL, options) == Backfill()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Reembed(where="true", keys=True),
        lambda: Reembed(rows_per_second=0.001),
        lambda: Reembed(rows_per_second=float("nan")),
        lambda: Reconcile(page_rows=-1),
        lambda: Reconcile(database_share=1.5),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_where_it_is_made(wrong: Any) -> None:
    with pytest.raises(Refused):
        wrong()


@pytest.mark.parametrize(
    ("kind", "options"), [("reembed", '{"wher": "id = 1"}'), ("reconcile", '{"database_share": 0}')]
)
def test_a_run_written_by_hand_fails_with_its_reason_and_touches_no_row(
    docs: Steps, kind: str, options: str
) -> None:
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    run_id = docs.synced.database.value(
        "INSERT INTO pgvector_sync.run (pipeline_id, kind, options) VALUES (1, %s, %s) RETURNING id", kind, options
    )
    assert run.carry_out(docs.runtime, run_id, until=within(5))
    ended = find_run(docs.runtime, run_id)
    assert (ended.state, ended.rows_seen, ended.rows_enqueued) == ("failed", 0, 0)
    assert str(ended.reason).startswith("options")
    assert str(ended.reason).endswith(": start the run again")
