"""A backfill: every row into the bulk lane, a bounded distance ahead of the workers, resumed where it was."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from pgvector_sync import database as database_module
from pgvector_sync.model import Lane
from pgvector_sync.observe.status import read_status
from pgvector_sync.runs import bulk, run
from pgvector_sync.runtime.keeper import new_lease
from pgvector_sync.store import usage
from support.processes import Processes
from support.steps import Steps, another_worker
from support.synced import DOCS, Synced, session
from support.waiting import eventually, within


@pytest.fixture
def waiting(synced: Synced) -> Synced:
    """60 rows that were there before the pipeline was applied; nothing has been filled yet."""
    synced.run(DOCS, "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 60) AS i")
    synced.declare()
    synced.apply()
    return synced


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE_ROWS", 10)


def run_of(synced: Synced) -> tuple[int, list[int] | None, str, int, int]:
    """Id, watermark, state, rows seen and rows enqueued of the newest run."""
    columns = "id, watermark, state, rows_seen, rows_enqueued"
    return tuple(synced.database.execute(f"SELECT {columns} FROM pgvector_sync.run ORDER BY id DESC LIMIT 1")[0])


def depth(synced: Synced) -> int:
    return int(synced.database.value("SELECT count(*) FROM pgvector_sync.work WHERE lane = 'bulk'"))


def carry_out(steps: Steps, *, seconds: float = 10.0) -> bool:
    eventually(
        lambda: steps.synced.database.value("SELECT visible_at <= now() FROM pgvector_sync.run"),
        what="the run is due again",
    )
    done = run.carry_out(steps.runtime, run_of(steps.synced)[0], until=within(seconds))
    steps.covered()
    return done


def test_rows_beyond_the_watermark_are_covered_by_the_running_backfill(waiting: Synced) -> None:
    waiting.covered()
    assert depth(waiting) == 0
    [status] = read_status(waiting.runtime.database, exact_text_limit=2_000)
    assert (status.state, status.rows, status.to_backfill, status.fresh) == ("backfilling", 60, 60, 0)


def test_a_backfill_stays_a_bounded_distance_ahead_of_the_workers(waiting: Synced) -> None:
    with another_worker(waiting, bulk_depth_rows=25) as steps:
        assert carry_out(steps) is False
        assert depth(waiting) == 30, "the page that reaches the limit is the last"
        assert carry_out(steps) is False
        assert depth(waiting) == 30
        assert run_of(waiting)[1:] == ([30], "running", 30, 30)
        waiting.settle(runtime=steps.runtime)
    assert run_of(waiting)[1:] == ([60], "finished", 60, 60)
    waiting.exact()


def test_a_run_that_waits_for_its_last_row_is_due_once_that_is_processed(
    waiting: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "RECHECK_EVERY", timedelta(hours=1))
    later = "SELECT visible_at > now() + interval '1 minute' FROM pgvector_sync.run"
    with another_worker(waiting, bulk_batch_size=40) as steps:
        carry_out(steps)
        assert waiting.database.value(later)
        for due in (True, False):
            steps.process(Lane.BULK)
            assert waiting.database.value(later) is due
        assert carry_out(steps) is True


def test_a_backfill_killed_between_its_pages_goes_on_at_its_watermark(
    waiting: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """As good as a kill: nothing behind it runs but what the database itself undoes."""

    with another_worker(waiting, lease=0.2) as steps:
        advance = bulk.runs.advance

        def dies_in_the_third_page(*arguments: object, **more: object) -> bool:
            if run_of(waiting)[3] == 20:
                raise KilledError
            return advance(*arguments, **more)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(bulk.runs, "advance", dies_in_the_third_page)
            patched.setattr(bulk.runs, "give_back", lambda *_, **__: None)
            with pytest.raises(KilledError):
                carry_out(steps)
        assert run_of(waiting)[1:] == ([20], "running", 20, 20)
        assert depth(waiting) == 20
        waiting.covered()
        carry_out(steps)
        assert run_of(waiting)[3:] == (60, 60)
        waiting.sync()


BACKFILL = """
import sys, time
from datetime import timedelta
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.runs import bulk
from pgvector_sync.runs import run
from pgvector_sync.runtime.keeper import new_lease

bulk.PAGE_ROWS = 10
with open_runtime() as runtime:
    print("begins", flush=True)
    while not run.carry_out(runtime, int(sys.argv[1]), until=Deadline.after(timedelta(minutes=1))):
        time.sleep(0.02)
"""


@pytest.mark.slow
def test_a_backfill_whose_process_is_killed_is_finished_by_another(waiting: Synced, processes: Processes) -> None:
    waiting.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1001, 4000) AS i")
    processes.env |= {"DATABASE_URL": waiting.database.url, "PGVECTOR_SYNC_LEASE": "0.5"}
    process = processes.python(BACKFILL, str(run_of(waiting)[0]))
    process.wait_for(lambda: run_of(waiting)[3] >= 50)
    process.kill()
    seen, enqueued = run_of(waiting)[3:]
    assert 50 <= seen < 3_060
    assert depth(waiting) == seen == enqueued
    waiting.covered()
    waiting.run("DELETE FROM docs WHERE id > 1100")
    waiting.sync()


def test_two_workers_carry_out_a_backfill_once(waiting: Synced) -> None:
    with another_worker(waiting) as first, another_worker(waiting) as second:
        run_id = run_of(waiting)[0]
        claimed = bulk.runs.claim
        with first.runtime.database.transaction() as connection:
            assert claimed(connection, run_id, new_lease(first.runtime.settings)) is not None
        assert run.carry_out(second.runtime, run_id, until=within(5)) is False
        assert depth(waiting) == 0
        waiting.covered()


def test_rows_that_wait_already_are_left_in_their_lane(waiting: Synced) -> None:
    waiting.run("UPDATE docs SET body = 'changed' WHERE id <= 5")
    with another_worker(waiting) as steps:
        steps.drain()
        carry_out(steps)
        assert run_of(waiting)[3:] == (60, 55)
        assert steps.work(1, "lane", "run_id") == ("live", None)
    waiting.sync()


def test_a_row_inserted_behind_the_watermark_is_embedded_by_its_event(waiting: Synced) -> None:
    with another_worker(waiting, bulk_depth_rows=25) as steps:
        carry_out(steps)
        waiting.run("INSERT INTO docs VALUES (0, 'behind'), (100, 'beyond')")
        waiting.covered()
        waiting.run("DELETE FROM docs WHERE id = 45", "UPDATE docs SET id = 7000 WHERE id = 50")
        waiting.covered()
    waiting.sync()


def test_a_paused_pipelines_backfill_waits(waiting: Synced) -> None:
    waiting.run("UPDATE pgvector_sync.pipeline SET state = 'paused'")
    with another_worker(waiting) as steps:
        assert carry_out(steps) is False
    assert depth(waiting) == 0
    waiting.run("UPDATE pgvector_sync.pipeline SET state = 'active'")
    waiting.sync()


def test_a_source_locked_as_a_whole_holds_up_its_backfill_and_breaks_nothing(
    waiting: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_CONFLICT_TRIES", 3)
    with another_worker(waiting) as steps, session(waiting.database) as application:
        steps.checks = False
        application.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        assert carry_out(steps) is False
        application.rollback()
    waiting.sync()


def test_a_backfill_of_an_empty_table_finishes_at_once(synced: Synced) -> None:
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    with another_worker(synced) as steps:
        assert carry_out(steps) is True
    assert run_of(synced)[1:] == (None, "finished", 0, 0)


def test_a_scheduled_job_is_taken_once_an_interval(docs: Steps) -> None:
    def take(name: str = "tick") -> bool:
        with docs.runtime.database.transaction() as connection:
            return usage.take_tick(connection, name, uuid4(), every=timedelta(hours=1))

    assert [take(), take(), take("another")] == [True, False, True]
    docs.synced.run("UPDATE pgvector_sync.tick SET visible_at = statement_timestamp()")
    assert [take(), take()] == [True, False]
