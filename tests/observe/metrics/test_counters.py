"""Counters are exact, whatever happens to a worker, and never fall."""

from __future__ import annotations

from pgvector_sync.runtime.keeper import expire_leases
from pgvector_sync.store import totals
from support.scraped import Scrape, scrape
from support.steps import Steps

ROWS = ("stored", "removed", "absent", "unchanged", "superseded", "parked", "released", "backed_off")


def rows(found: Scrape) -> dict[str, float]:
    """The counts of the live lane that aren't 0."""
    counts = {row: found.value("rows_total", pipeline="docs", lane="live", outcome=row) for row in ROWS}
    return {row: count for row, count in counts.items() if count}


def test_rows_are_counted_by_what_was_done_with_them(docs: Steps) -> None:
    docs.insert(_1="a", _2="b", _3="c", _4=None)
    docs.process()
    assert rows(scrape(docs.runtime.database)) == {"stored": 3, "absent": 1}
    docs.change(1, None)
    docs.change(2, "b2")
    docs.change(2, "b")
    docs.process()
    found = scrape(docs.runtime.database)
    assert rows(found) == {"stored": 3, "absent": 1, "removed": 1, "unchanged": 1}
    assert found.value("batches_total", pipeline="docs", lane="live") == 2


def test_a_row_that_changes_during_its_call_counts_as_superseded(docs: Steps) -> None:
    docs.insert(_1="a")
    docs.process(during=lambda: docs.change(1, "b"))
    assert rows(scrape(docs.runtime.database)) == {"superseded": 1}


def test_dead_letters_and_released_rows_are_counted(docs: Steps) -> None:
    docs.synced.endpoint.fail(status=400, marker="poison")
    docs.insert(_1="poison", _2="good")
    docs.process()
    found = scrape(docs.runtime.database)
    assert rows(found) == {"stored": 1, "parked": 1}
    assert found.value("dead_letters", pipeline="docs", error_class="input_rejected") == 1
    docs.synced.endpoint.fail(status=401)
    docs.insert(_3="c")
    docs.process()
    found = scrape(docs.runtime.database)
    assert rows(found) == {"stored": 1, "parked": 1, "released": 1}
    assert found.value("pipeline_state", pipeline="docs", state="misconfigured") == 1
    assert found.value("pipeline_state", pipeline="docs", state="active") == 0


def test_rows_count_as_soon_as_they_are_written_and_stay_counted_if_the_worker_dies(docs: Steps) -> None:
    docs.insert(_1="a", _2="b")
    batch = docs.claim()
    docs.write(batch, docs.embed(batch))
    before = scrape(docs.runtime.database)
    assert rows(before) == {"stored": 2}
    assert before.value("batches_total", pipeline="docs", lane="live") == 0, "it hasn't ended"
    with docs.runtime.database.transaction() as connection:
        connection.execute("UPDATE pgvector_sync.lease SET lost_at = now(), suspected_at = now()")
    lost = scrape(docs.runtime.database)
    assert rows(lost) == {"stored": 2}
    assert lost.value("leases_lost_total", pipeline="docs", lane="live") == 1
    expire_leases(docs.runtime.database, docs.runtime.settings)
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.lease") == 0
    after = scrape(docs.runtime.database)
    assert rows(after) == {"stored": 2}
    assert after.value("leases_lost_total", pipeline="docs", lane="live") == 1


def test_the_time_from_a_change_to_its_vector_is_counted_by_the_databases_clock(docs: Steps) -> None:
    docs.insert(_1="a", _2="b")
    docs.drain()
    docs.synced.run(
        "UPDATE pgvector_sync.work SET waiting_since = now() - interval '20 seconds' WHERE key = '[1]'"
    )
    docs.process()
    found = scrape(docs.runtime.database)
    count = found.value("change_to_vector_seconds_count", pipeline="docs", lane="live")
    total = found.value("change_to_vector_seconds_sum", pipeline="docs", lane="live")
    assert count == 2
    assert total is not None
    assert 20 <= total < 40
    buckets = {
        bound: found.value("change_to_vector_seconds_bucket", pipeline="docs", lane="live", le=f"{bound:g}")
        for bound in totals.WAIT_BOUNDS_SECONDS
    }
    assert (buckets[10.0] or 0) <= 1
    assert [buckets[bound] for bound in (30.0, 60.0, 1800.0)] == [2, 2, 2]
    assert found.value("claim_seconds_count", pipeline="docs") == 1


def test_calls_are_counted_by_their_outcome_with_retries(docs: Steps) -> None:
    docs.insert(_1="a")
    docs.synced.endpoint.fail(status=500, times=1)
    docs.process()
    found = scrape(docs.runtime.database)
    assert found.value("provider_calls_total", pipeline="docs", outcome="ok") == 1
    assert found.value("provider_calls_total", pipeline="docs", outcome="unavailable") == 1
    assert found.value("provider_call_seconds_count", pipeline="docs") == 2


def test_calls_of_a_batch_that_an_exception_ends_are_counted_once(docs: Steps) -> None:
    docs.insert(_1="a")

    target = docs.synced.shape().pipeline.target_table
    docs.checks = False
    docs.process(during=lambda: docs.synced.run(f"ALTER TABLE {target} RENAME TO elsewhere"))
    docs.synced.run(f"ALTER TABLE elsewhere RENAME TO {target}")
    found = scrape(docs.runtime.database)
    assert found.value("provider_calls_total", pipeline="docs", outcome="ok") == 1
    assert found.value("inputs_total", pipeline="docs") == 1


def test_inputs_tokens_and_dollars_are_counted_with_what_was_saved(docs: Steps) -> None:
    docs.synced.run("UPDATE pgvector_sync.pipeline SET price = 1000000")
    docs.insert(_1="same", _2="same", _3="other")
    docs.process()
    docs.insert(_4="other")
    docs.process()
    found = scrape(docs.runtime.database)
    assert found.value("inputs_total", pipeline="docs") == 2
    tokens = found.value("tokens_total", pipeline="docs")
    assert tokens is not None
    assert tokens > 0
    assert found.value("day_tokens", pipeline="docs") == tokens
    assert found.value("cost_usd_total", pipeline="docs") == tokens
    saved = {
        reason: found.value("saved_inputs_total", pipeline="docs", reason=reason) for reason in ("equal", "stored")
    }
    assert saved == {"equal": 1, "stored": 1}


def test_counters_of_a_removed_pipeline_are_gone(docs: Steps) -> None:
    docs.insert(_1="a")
    docs.process()
    docs.synced.remove("docs")
    found = scrape(docs.runtime.database)
    assert [labels for _, labels in found.samples if ("pipeline", "docs") in labels] == []
    for table in ("batch_totals", "call_totals", "history"):
        assert docs.synced.database.value(f"SELECT count(*) FROM pgvector_sync.{table}") == 0
