"""`Sync`: its methods, and the keys they accept."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import pgvector_sync
from pgvector_sync import Reconciliation, Reembed, Refused, Run, Sync
from pgvector_sync.engine.loop import Loop
from pgvector_sync.model import State
from support.beginnings import begins_with, ten_rows
from support.client import sync_as
from support.looping import running
from support.roles import APPLICATION, OWNER, WORKER
from support.synced import Synced
from support.waiting import eventually

ROWS = 10
beginning, synced = begins_with(ten_rows)


@pytest.fixture
def sync(synced: Synced) -> Iterator[Sync]:
    """A `Sync` with a worker's privileges."""
    with sync_as(synced.database, WORKER) as sync:
        yield sync


@pytest.fixture
def working(synced: Synced) -> Iterator[None]:
    """Runs are carried out and rows embedded in a background thread."""
    with running(Loop(synced.runtime)):
        yield


# -- verbs ---------------------------------------------------------------------------------------------------


def test_status_shows_every_pipeline_and_the_workers(synced: Synced, sync: Sync) -> None:
    synced.run("INSERT INTO docs VALUES (11, 'new')", "UPDATE pgvector_sync.outbox SET at = at - interval '90 s'")
    found = sync.status("docs", exact=True)
    [docs] = found.pipelines
    assert (docs.name, docs.state, docs.rows, docs.fresh, docs.waiting) == ("docs", State.ACTIVE, 11, 10, 1)
    assert docs.lag is not None
    assert timedelta(seconds=90) <= docs.lag < timedelta(seconds=120)
    assert (found.workers.alive, found.workers.last_seen) == (0, None)
    assert sync.pipelines() == ("docs",)
    assert sync.key_columns("docs")[0].name == "id"


def test_rows_of_a_table_that_was_never_analyzed_are_those_that_postgres_has_counted(
    synced: Synced, sync: Sync
) -> None:
    synced.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(11, 100) n")
    assert synced.database.value("SELECT reltuples FROM pg_class WHERE relname = 'docs'") == -1
    eventually(lambda: sync.status("docs").pipelines[0].rows >= 90)


def test_a_pipeline_is_paused_and_resumed(synced: Synced, sync: Sync) -> None:
    assert sync.pause("docs", reason="for tonight") is True
    assert sync.pause("docs") is False
    [docs] = sync.status().pipelines
    assert (docs.state, docs.reason) == (State.PAUSED, "for tonight")
    with pytest.raises(Refused, match="docs is paused"):
        sync.require_unpaused("docs")
    assert sync.resume("docs") == pgvector_sync.Resumed(changed=True, problems=())
    assert sync.resume("docs").changed is False
    synced.run("ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update")
    [problem] = sync.resume("docs").problems
    assert "pgvector_sync_update" in problem


@pytest.mark.usefixtures("working")
def test_a_re_embed_is_requested_and_awaited(synced: Synced, sync: Sync) -> None:
    paid = synced.paid()
    requested = sync.reembed("docs", where="id <= 3", force=True)
    assert (requested.pipeline, requested.rows_total, requested.joined) == ("docs", ROWS, False)
    seen: list[Run] = []
    ended = sync.wait(requested.run_id, timeout=timedelta(seconds=30), on_progress=seen.append)
    assert (ended.state, ended.rows_enqueued, ended.request) == (
        "finished",
        3,
        Reembed(where="id <= 3", force=True),
    )
    assert seen[-1] == ended
    assert synced.paid() == paid + 3
    assert sync.run(requested.run_id) == ended
    assert [run.id for run in sync.runs("docs", limit=1)] == [ended.id]


def test_an_identical_request_is_joined_and_a_run_is_cancelled(sync: Sync) -> None:
    first = sync.reembed("docs", rows_per_second=0.5)
    assert sync.reembed("docs", rows_per_second=0.5) == pgvector_sync.Requested("docs", first.run_id, None, True)
    with pytest.raises(TimeoutError, match=f"run {first.run_id} is still running"):
        sync.wait(first.run_id, timeout=timedelta(0))
    sync.cancel(first.run_id)
    assert sync.run(first.run_id).state == "cancelled"
    with pytest.raises(Refused, match="has already ended"):
        sync.cancel(first.run_id)


def test_the_waiting_process_can_carry_out_a_run(synced: Synced, sync: Sync) -> None:
    synced.run(
        "SET session_replication_role = replica; DELETE FROM docs WHERE id = 1; INSERT INTO docs VALUES (11, 'x')"
    )
    requested = sync.reconcile("docs", dry_run=True)
    found = Reconciliation.of(sync.wait(requested.run_id, carry_out=True))
    assert (found.missing, found.orphaned, found.drifted, found.succeeded) == (1, 1, 2, False)
    assert found.samples["missing"] == [[11]]
    [figures] = sync.reconciliations("docs")
    assert (figures.run_id, figures.missing, figures.orphaned) == (requested.run_id, 1, 1)


def test_waiting_reports_why_nothing_progresses(sync: Sync) -> None:
    requested = sync.reembed("docs", force=True)
    reasons: list[str] = []

    def stop(_: Run, reason: str) -> None:
        reasons.append(reason)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync.wait(requested.run_id, carry_out=True, on_silence=stop)
    assert reasons[0].startswith("no worker is running")


def test_an_estimate_calls_no_provider(synced: Synced, sync: Sync) -> None:
    calls = synced.endpoint.calls.requests
    found = sync.estimate("docs", keys=[1, 2, 99], force=True)
    assert (found.rows, found.inputs) == (2, 2)
    assert sync.estimate("docs").inputs == 0
    assert synced.endpoint.calls.requests == calls


def test_dead_letters_are_listed_requeued_and_discarded(synced: Synced, sync: Sync) -> None:
    synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    synced.run("INSERT INTO docs VALUES (11, 'poison'), (12, 'poison, too')")
    synced.settle()
    letters = sync.dead_letters("docs")
    assert [(letter.key, letter.error_class) for letter in letters] == [
        ((11,), "input_rejected"),
        ((12,), "input_rejected"),
    ]
    assert timedelta(0) <= letters[0].age < timedelta(minutes=1)
    assert letters[0].parked_at.tzinfo is not None
    with pytest.raises(Refused, match="no dead letter has this key"):
        sync.requeue("docs", keys=[1])
    assert sync.discard("docs", keys=[12]) == 1
    synced.endpoint.heal()
    assert sync.requeue("docs") == 2
    assert sync.discard_bad_keys("docs") == 0
    synced.sync()


# -- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value", "stored"),
    [
        ("bigint", 42, 42),
        ("numeric", Decimal("1.50"), "1.5"),
        ("uuid", UUID(int=15), "00000000-0000-0000-0000-00000000000f"),
        ("date", date(2026, 1, 5), "2026-01-05"),
        ("timestamptz", datetime(2026, 1, 5, 12, tzinfo=UTC), "2026-01-05T12:00:00Z"),
        ("boolean", True, "true"),
        ("text", "7", "7"),
    ],
)
@pytest.mark.quick_variants(4)
def test_keys_are_python_values(synced: Synced, type_: str, value: Any, stored: Any) -> None:
    """`reembed` and `enqueue` write keys in the same form as the triggers."""
    synced.run(f"CREATE TABLE things (id {type_} PRIMARY KEY, body text)")
    synced.declare("things", source="things")
    synced.apply()
    with sync_as(synced.database, OWNER) as sync:
        run_id = sync.reembed("things", keys=[value, (value,)]).run_id
        keys = synced.database.execute("SELECT key FROM pgvector_sync.run_key WHERE run_id = %s", run_id)
        assert keys == [([stored],)]
        assert sync.enqueue("things", [value]) == 1
    assert synced.events() == [[stored]]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["x"], r"expected keys of \(id bigint\)"),
        ([(1, 2)], "expected 1 values, got 2"),
        ([None], "expected strings and numbers"),
        ("12", "expected a list of keys, got a string"),
        ([], "the list of keys is empty"),
    ],
)
def test_invalid_keys_are_refused_before_anything_is_written(
    synced: Synced, sync: Sync, keys: Any, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        sync.reembed("docs", keys=keys)
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.run") == 1


@pytest.mark.parametrize(
    ("pipeline", "keys"), [("nothing", [1]), ("docs", ["x"]), ("docs", [None]), ("docs", [(1, 2)]), ("docs", "12")]
)
def test_an_invalid_enqueue_is_refused_and_writes_nothing(synced: Synced, pipeline: str, keys: Any) -> None:
    with sync_as(synced.database, APPLICATION) as sync, pytest.raises(Refused):
        sync.enqueue(pipeline, keys)
    assert synced.events() == []


# -- the interface -----------------------------------------------------------------------------------------


def test_every_parameter_of_every_method_is_documented() -> None:
    for name, method in inspect.getmembers(Sync, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        said = (Sync if name == "__init__" else method).__doc__ or ""
        for parameter in list(inspect.signature(method).parameters)[1:]:
            assert f"{parameter}:" in said or f"{parameter}," in said, (name, parameter)


def test_everything_that_is_exported_exists() -> None:
    for name in pgvector_sync.__all__:
        assert getattr(pgvector_sync, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pgvector_sync.nothing
