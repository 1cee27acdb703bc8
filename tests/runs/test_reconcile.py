"""Reconcile: whatever has bypassed the triggers or touched the target by hand is found to the row, and enqueued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgvector_sync.model.request import Reconcile
from pgvector_sync.observe.waiting import find_run, wait_for
from pgvector_sync.runs import reconcile, run
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.store import runs
from pgvector_sync.store.runs import Run
from support.beginnings import begins_with, default_source
from support.endpoint import vector_of
from support.steps import Steps
from support.synced import DIMENSIONS, DOCS, MODEL, Synced
from support.waiting import eventually, within

ROWS = 40


def forty_rows(synced: Synced) -> None:
    """40 rows, each with its vector."""
    default_source(synced)
    synced.filled(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i")


beginning, begun = begins_with(forty_rows)


@pytest.fixture
def filled(begun: Synced, docs: Steps) -> Steps:
    return docs


def unnoticed(docs: Steps, *statements: str) -> None:
    """As a restore, a replica's apply worker or a superuser with a grudge would: no trigger fires."""
    docs.synced.run("; ".join(["SET session_replication_role = replica", *statements]))


def reconciled(docs: Steps, **options: Any) -> Run:
    """Carry out a reconciliation to its end, without the repairs."""
    requested = request_reconcile(docs.runtime.database, docs.pipeline, Reconcile(**options))
    run.carry_out(docs.runtime, requested.run_id, until=within(20))
    return find_run(docs.runtime, requested.run_id)


def found(ended: Run) -> dict[str, list[Any]]:
    """Kind → first key columns, of every kind that was found."""
    assert all(ended.counts[kind] == len(keys) for kind, keys in ended.samples.items())
    assert {kind for kind, count in ended.counts.items() if count} - {"rows", "vectors"} == set(ended.samples)
    return {kind: [key[0] for key in keys] for kind, keys in ended.samples.items()}


def seed(docs: Steps) -> None:
    """One or two of each kind of drift, by hand."""
    vectors = docs.synced.database
    unnoticed(
        docs,
        "INSERT INTO docs VALUES (101, 'missing'), (102, 'also missing'), (103, '  '), (104, NULL)",
        "UPDATE docs SET body = 'another text' WHERE id IN (1, 2)",
        "DELETE FROM docs WHERE id = 3",
        "UPDATE docs SET body = ' ' WHERE id = 4",
        "UPDATE docs_embedding SET model = 'text-embedding-ancient' WHERE id = 5",
        "UPDATE docs_embedding SET chunk_no = 1 WHERE id = 6",
        "INSERT INTO docs_embedding SELECT id, 1, chunk, embedding, fingerprint, model, embedded_at "
        "FROM docs_embedding WHERE id = 7",
    )
    zero = str([0.0] * DIMENSIONS)
    vectors.execute(f"UPDATE docs_embedding SET embedding = '{zero}' WHERE id = 8")


def test_every_kind_of_drift_is_found_to_the_row_and_mended_by_the_workers(filled: Steps) -> None:
    seed(filled)
    ended = reconciled(filled, deep=True)
    assert found(ended) == {
        "missing": [101, 102],
        "stale": [1, 2],
        "orphaned": [3, 4],
        "wrong_model": [5],
        "incomplete": [6, 7],
        "broken": [8],
    }
    assert ended.counts["rows"] == ROWS + 3
    assert ended.state == "running", "until what it has enqueued is done"
    filled.synced.sync()
    assert reconciled(filled, deep=True).samples == {}
    assert find_run(filled.runtime, ended.id).state == "finished"


def test_without_deep_no_text_is_compared_and_all_else_is_found(filled: Steps) -> None:
    seed(filled)
    assert found(reconciled(filled)) == {
        "missing": [101, 102],
        "orphaned": [3],
        "wrong_model": [5],
        "incomplete": [6, 7],
    }


def test_a_dry_run_counts_and_enqueues_nothing(filled: Steps) -> None:
    seed(filled)
    ended = reconciled(filled, deep=True, dry_run=True)
    assert ended.state == "finished"
    assert sum(map(len, ended.samples.values())) == 10
    assert filled.in_work() == []
    assert ended.rows_enqueued == 0


def test_what_is_only_waiting_is_no_drift(filled: Steps) -> None:
    filled.insert(_101="in the outbox")
    filled.change(1, "in the outbox")
    filled.delete(2)
    filled.change(3, "in work")
    filled.drain()
    filled.change(4, "in the outbox")
    assert reconciled(filled, deep=True).samples == {}


def test_what_a_backfill_has_yet_to_reach_is_no_drift(filled: Steps) -> None:
    filled.synced.declare(text={"sql": "body || '!'"})
    filled.synced.apply()
    assert reconciled(filled, deep=True).samples == {}
    filled.synced.sync()


def test_a_discarded_row_is_not_bought_again(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison", _2="fine")
    docs.process()
    docs.synced.run("UPDATE pgvector_sync.work SET verdict = 'discarded' WHERE parked_at IS NOT NULL")
    calls = docs.synced.endpoint.calls.requests
    assert reconciled(docs, deep=True).samples == {}
    docs.synced.settle()
    assert docs.synced.endpoint.calls.requests == calls
    assert docs.work(1, "verdict") == "discarded"


@pytest.mark.parametrize("deep", [False, True])
def test_pages_of_any_size_find_the_same(filled: Steps, deep: bool) -> None:
    seed(filled)
    unnoticed(filled, "DELETE FROM docs WHERE id BETWEEN 20 AND 25")
    whole = reconciled(filled, deep=deep, dry_run=True)
    for size in (1, 2, 3, 7):
        paged = reconciled(filled, deep=deep, dry_run=True, page_rows=size)
        assert (paged.counts, paged.samples) == (whole.counts, whole.samples)


def test_a_source_without_rows_and_a_target_without_vectors_are_walked_as_well(docs: Steps) -> None:
    assert found(reconciled(docs)) == {}
    unnoticed(docs, "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) AS i")
    assert found(reconciled(docs, dry_run=True, page_rows=2)) == {"missing": [1, 2, 3, 4, 5]}
    docs.synced.run("UPDATE docs SET body = body || '.'")
    docs.synced.sync()
    unnoticed(docs, "DELETE FROM docs")
    assert found(reconciled(docs, dry_run=True, page_rows=2)) == {"orphaned": [1, 2, 3, 4, 5]}


def test_too_many_orphans_stay_until_a_person_says_that_it_is_meant(filled: Steps) -> None:
    unnoticed(filled, "DELETE FROM docs WHERE id <= 10", "UPDATE docs SET body = 'stale' WHERE id = 20")
    ended = reconciled(filled, deep=True)
    assert ended.state == "failed"
    assert ended.reason is not None
    assert "10 of 40 vectors look orphaned" in ended.reason
    assert "--accept-orphans" in ended.reason
    assert filled.in_work() == [20], "all other drift is repaired"
    assert filled.synced.database.value("SELECT count(*) FROM pgvector_sync.run_key") == 0
    assert reconciled(filled, accept_orphans=True).counts["orphaned"] == 10
    filled.synced.sync()


def test_orphans_up_to_the_share_of_the_schedule_are_removed(filled: Steps) -> None:
    unnoticed(filled, "DELETE FROM docs WHERE id <= 10")
    filled.synced.declare(reconcile={"orphan_share": 0.25})
    filled.synced.apply()
    assert reconciled(filled).state == "running"
    filled.synced.sync()


def test_a_source_that_hides_its_rows_fails_the_run_and_deletes_nothing(filled: Steps) -> None:
    requested = request_reconcile(filled.runtime.database, "docs")
    filled.synced.run("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    assert run.carry_out(filled.runtime, requested.run_id, until=within(20))
    ended = find_run(filled.runtime, requested.run_id)
    assert ended.state == "failed"
    assert "42501" in (ended.reason or "")
    assert len(filled.synced.vectors()) == ROWS
    assert filled.in_work() == []


def test_a_row_on_which_the_expression_fails_becomes_a_dead_letter_and_hides_no_other(docs: Steps) -> None:
    docs.checks = False
    docs.synced.declare(text={"sql": "body || (100 / coalesce(note, '1')::int)"})
    docs.synced.apply()
    docs.synced.run("INSERT INTO docs SELECT i, 'text', '1' FROM generate_series(1, 20) AS i")
    docs.synced.settle()
    unnoticed(docs, "UPDATE docs SET note = '0' WHERE id = 7", "DELETE FROM docs WHERE id IN (6, 8)")
    ended = reconciled(docs, deep=True)
    assert found(ended) == {"stale": [7], "orphaned": [6, 8]}
    docs.synced.settle()
    assert docs.synced.dead() == [([7], "expression_failed")]
    assert reconciled(docs, deep=True).samples == {}


def test_work_beyond_any_lease_is_freed(filled: Steps) -> None:
    filled.change(1, "held by nobody")
    filled.change(2, "due in a year")
    filled.change(3, "in flight")
    filled.change(4, "backed off")
    filled.change(5, "held by a lease that a restore has lost")
    filled.drain()
    filled.synced.run(
        "UPDATE pgvector_sync.work SET lease = gen_random_uuid() WHERE key IN ('[1]', '[5]')",
        "INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at) "
        "SELECT lease, pipeline_id, lane, 'host:family:1', now() - interval '1 hour', now() FROM pgvector_sync.work "
        "WHERE key = '[1]'",
        "UPDATE pgvector_sync.work SET visible_at = now() + interval '1 year' WHERE key = '[2]'",
        "UPDATE pgvector_sync.work SET lease = gen_random_uuid() WHERE key = '[3]'",
        "INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at) "
        "SELECT lease, pipeline_id, lane, 'host:family:1', now() + interval '1 min', now() + interval '1 min' "
        "FROM pgvector_sync.work WHERE key = '[3]'",
        "UPDATE pgvector_sync.work SET visible_at = now() + interval '10 min' WHERE key = '[4]'",
    )
    assert found(reconciled(filled, dry_run=True)) == {"stuck": [1, 2, 5]}
    assert found(reconciled(filled)) == {"stuck": [1, 2, 5]}
    due = "SELECT key->>0 FROM pgvector_sync.work WHERE visible_at <= now() AND lease IS NULL ORDER BY 1"
    assert filled.synced.database.execute(due) == [("2",), ("5",)]


def test_a_run_that_is_killed_between_its_pages_goes_on_where_it_was(
    filled: Steps, worker: Callable[..., Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Nothing behind it runs but what the database itself undoes."""

    seed(filled)
    whole = reconciled(filled, deep=True, dry_run=True)
    requested = request_reconcile(filled.runtime.database, "docs", Reconcile(deep=True, page_rows=5))
    other = worker(lease=0.1)
    advance, pages = reconcile.runs.advance, iter(range(100))

    def dies_in_the_third_page(*arguments: Any, **more: Any) -> bool:
        if next(pages) == 2:
            raise KilledError
        return advance(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(reconcile.runs, "advance", dies_in_the_third_page)
        patched.setattr(reconcile.runs, "give_back", lambda *_, **__: None)
        with pytest.raises(KilledError):
            run.carry_out(other.runtime, requested.run_id, until=within(20))
    half = find_run(filled.runtime, requested.run_id)
    assert 0 < half.rows_seen < ROWS
    walked = "SELECT walked FROM pgvector_sync.run WHERE id = %s"
    eventually(
        lambda: (
            run.carry_out(filled.runtime, requested.run_id, until=within(5))
            or filled.synced.database.value(walked, requested.run_id)
        )
    )
    filled.synced.settle()
    ended = wait_for(filled.runtime, requested.run_id, on_progress=lambda _: None)
    assert (ended.state, ended.counts, ended.samples) == ("finished", whole.counts, whole.samples)
    filled.synced.sync()


def test_one_reconciliation_of_a_pipeline_at_a_time_and_asking_twice_joins(filled: Steps) -> None:
    first = request_reconcile(filled.runtime.database, "docs")
    again = request_reconcile(filled.runtime.database, "docs")
    assert (again.run_id, again.joined) == (first.run_id, True)


def test_a_request_starts_a_run_if_the_one_in_its_way_ends_just_now(
    filled: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = request_reconcile(filled.runtime.database, "docs", Reconcile())
    start = runs.start

    def start_late(*given: Any, **more: Any) -> int | None:
        started = start(*given, **more)
        filled.synced.run(
            "UPDATE pgvector_sync.run SET state = 'finished', finished_at = now() WHERE state = 'running'"
        )
        return started

    monkeypatch.setattr(runs, "start", start_late)
    again = request_reconcile(filled.runtime.database, "docs", Reconcile())
    assert again.run_id > first.run_id
    assert not again.joined


def test_each_one_leaves_its_figures_for_the_trend(filled: Steps) -> None:
    seed(filled)
    reconciled(filled, deep=True)
    filled.synced.settle()
    reconciled(filled)
    figures = filled.synced.database.execute(
        "SELECT deep, rows, vectors, missing, stale, orphaned, wrong_model, broken, incomplete, stuck "
        "FROM pgvector_sync.drift ORDER BY at"
    )
    assert figures == [(True, 43, 39, 2, 2, 2, 1, 1, 2, 0), (False, 43, 40, 0, 0, 0, 0, 0, 0, 0)]


def test_a_command_that_waits_carries_the_run_out_itself(filled: Steps) -> None:
    seen: list[int] = []
    requested = request_reconcile(filled.runtime.database, "docs", Reconcile(page_rows=5))
    ended = wait_for(filled.runtime, requested.run_id, on_progress=lambda run: seen.append(run.rows_seen))
    assert (ended.state, ended.rows_seen, seen[-1]) == ("finished", ROWS, ROWS)


def test_keys_of_several_columns_are_walked_in_the_tables_own_order(synced: Synced) -> None:
    synced.run(
        'CREATE TABLE pairs (region text COLLATE "C", n numeric, body text, PRIMARY KEY (region, n))',
        "INSERT INTO pairs SELECT r, i + 0.50, r || i FROM unnest(ARRAY['a', 'B', 'ä']) r, generate_series(-3, 3) i",
    )
    synced.pipeline(source="pairs")
    pairs = Steps(synced, synced.runtime)
    unnoticed(
        pairs,
        "DELETE FROM pairs WHERE region = 'B' AND n = 1.5",
        "UPDATE pairs SET body = 'x' WHERE region = 'a' AND n < -2",
        "INSERT INTO pairs VALUES ('ä', 10, 'new')",
    )
    for size in (1, 4, 1000):
        ended = reconciled(pairs, deep=True, dry_run=True, page_rows=size)
        assert ended.samples == {"orphaned": [["B", "1.5"]], "stale": [["a", "-2.5"]], "missing": [["ä", "10"]]}
    reconciled(pairs, deep=True)
    synced.sync()


def test_a_halfvec_target_is_looked_at_as_well(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    synced.declare(vector_type="halfvec", model=MODEL)
    synced.apply()
    synced.settle()
    half = Steps(synced, synced.runtime)
    assert reconciled(half, deep=True).samples == {}
    synced.run(f"UPDATE docs_embedding SET embedding = '{[0] * DIMENSIONS}' WHERE id = 2")
    assert found(reconciled(half, deep=True)) == {"broken": [2]}
    synced.settle()
    assert synced.vectors()[(2,)] == pytest.approx(vector_of("two", DIMENSIONS), abs=1e-3)
