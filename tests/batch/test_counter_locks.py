"""A locked counter costs no attempt and no paid answer, and no count is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgvector_sync.batch import write as write_module
from pgvector_sync.runtime.keeper import expire_leases
from support.scraped import scrape
from support.steps import Steps
from support.synced import session
from support.waiting import eventually


def counted(docs: Steps, outcome: str) -> float | None:
    return scrape(docs.runtime.database).value("rows_total", pipeline="docs", lane="live", outcome=outcome)


def test_a_locked_lease_costs_no_attempt_and_its_rows_are_counted(
    docs: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process that expires leases and is frozen meanwhile."""
    monkeypatch.setattr(write_module, "RETRY_LOCKED_FOR", timedelta(milliseconds=200))
    docs.insert(_1="a", _2="b", _3="c")
    batch = docs.claim()
    prepared = docs.embed(batch)
    docs.change(3, "changed")
    with session(docs.synced.database) as other:
        other.execute("SELECT FROM pgvector_sync.lease FOR UPDATE")
        written = docs.write(batch, prepared)
        assert written.failed == {}
        assert written.stored == {(1,), (2,)}
        assert written.superseded == {(3,)}
        assert (counted(docs, "stored"), counted(docs, "superseded")) == (2, 1)
        other.rollback()
    docs.runtime.database.retry_on_lock_conflict(batch.holding.end)
    found = scrape(docs.runtime.database)
    assert (counted(docs, "stored"), counted(docs, "superseded")) == (2, 1)
    assert found.value("change_to_vector_seconds_count", pipeline="docs", lane="live") == 2
    assert found.value("batches_total", pipeline="docs", lane="live") == 1


@pytest.mark.parametrize("counter", ["batch_totals", "call_totals", "usage"])
@pytest.mark.slow
def test_a_locked_counter_costs_no_attempt_and_is_written_later(docs: Steps, counter: str) -> None:
    docs.insert(_1="a")
    docs.process()
    docs.insert(_2="b")
    with session(docs.synced.database) as other:
        other.execute(f"SELECT FROM pgvector_sync.{counter} FOR UPDATE")
        docs.process()
        assert docs.has_vector_of(2, "b")
        assert docs.in_work() == []
        assert counted(docs, "stored") == 2
        other.rollback()
    eventually(lambda: docs.synced.database.value("SELECT count(*) FROM pgvector_sync.lease") == 0)
    found = scrape(docs.runtime.database)
    assert found.value("batches_total", pipeline="docs", lane="live") == 2
    assert found.value("provider_calls_total", pipeline="docs", outcome="ok") == 2
    assert found.value("leases_lost_total", pipeline="docs", lane="live") == 0


def test_a_sum_of_seconds_does_not_fall_when_leases_end(docs: Steps) -> None:
    batches = []
    for key in ("_1", "_2", "_3"):
        docs.insert(**{key: "text"})
        batches.append(docs.claim())
    for batch, seconds in zip(batches, (0.1, 0.2, 0.3), strict=True):
        docs.synced.run(
            f"UPDATE pgvector_sync.lease SET wait_seconds = {seconds}, lost_at = now() "
            f"WHERE id = '{batch.holding.lease}'"
        )

    def total() -> float:
        found = scrape(docs.runtime.database).value("change_to_vector_seconds_sum", pipeline="docs", lane="live")
        assert found is not None
        return found

    before = total()
    for batch in batches[1:]:
        docs.synced.run(f"DELETE FROM pgvector_sync.work WHERE lease = '{batch.holding.lease}'")
    expire_leases(docs.runtime.database, docs.runtime.settings)
    assert total() >= before
