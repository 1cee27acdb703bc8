"""Impact on the application: a worker waits for a lock for 50 ms at most, and finishes later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest

from pgvector_sync import database as database_module
from pgvector_sync.batch import process
from pgvector_sync.batch import write as write_module
from pgvector_sync.model import Lane
from pgvector_sync.runtime.slice_size import LARGEST_SLICE_ROWS, SliceSize
from support.roles import OWNER
from support.steps import Steps
from support.synced import session
from support.waiting import eventually


@pytest.fixture
def application(docs: Steps) -> Iterator[psycopg.Connection[object]]:
    """A session of the application's, in transactions."""
    with session(docs.synced.database) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(autouse=True)
def _short_contention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked rows are given up after 0.2 seconds instead of five."""
    monkeypatch.setattr(write_module, "RETRY_LOCKED_FOR", timedelta(milliseconds=200))


def server_log_is_quiet(docs: Steps) -> None:
    name = docs.synced.database.name
    assert docs.synced.database.server.logged(rf" {name} .*(still waiting|deadlock detected)") == []


def test_a_locked_target_row_is_given_up_and_the_others_are_written(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two", _3="three")
    docs.synced.sync()
    application.execute("SELECT FROM docs_embedding WHERE id = 2 FOR UPDATE")
    docs.synced.run("UPDATE docs SET body = body || ' changed'")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 2
    assert docs.work(2, "lease", "attempts") == (None, 1), "it was paid for"
    application.rollback()
    docs.end_backoffs()
    docs.synced.sync()
    server_log_is_quiet(docs)


def test_a_target_row_that_is_free_again_soon_is_written_with_the_vector_that_was_paid_for(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one")
    docs.synced.sync()
    docs.change(1, "changed")
    batch = docs.claim()
    prepared = docs.embed(batch)
    application.execute("SELECT FROM docs_embedding FOR UPDATE")
    paid, done = docs.synced.paid(), []
    thread = threading.Thread(target=lambda: done.append(docs.write(batch, prepared)))
    thread.start()
    eventually(docs.synced.database.waiting_for_locks, what="the write waits for the application")
    application.rollback()
    thread.join(10)
    assert done[0].stored == {(1,)}
    assert docs.synced.paid() == paid
    server_log_is_quiet(docs)


def test_a_locked_work_row_is_skipped_and_embedded_later(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two")
    docs.drain()
    application.execute("SELECT FROM pgvector_sync.work WHERE key = '[1]' FOR UPDATE")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.claimed, outcome.stored) == (1, 1)
    application.rollback()
    docs.synced.sync()
    server_log_is_quiet(docs)


def test_a_work_row_locked_between_claim_and_write_is_given_up_and_the_others_are_written(
    docs: Steps, application: psycopg.Connection[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_CONFLICT_TRIES", 4)
    docs.insert(_1="one", _2="two")
    lock = "SELECT FROM pgvector_sync.work WHERE key = '[1]' FOR UPDATE"
    assert docs.process(during=lambda: application.execute(lock)) is not None
    assert docs.synced.vectors().keys() == {(2,)}
    application.rollback()
    docs.expire_leases()
    docs.synced.sync()
    server_log_is_quiet(docs)


def test_a_source_row_in_the_applications_hands_is_no_obstacle(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two")
    application.execute("SELECT FROM docs FOR UPDATE")
    application.execute("UPDATE docs SET body = 'uncommitted' WHERE id = 1")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.stored == 2
    assert docs.has_vector_of(1, "one")
    application.commit()
    docs.synced.sync()
    assert docs.has_vector_of(1, "uncommitted")
    server_log_is_quiet(docs)


def test_an_application_that_deletes_in_the_other_order_never_deadlocks_with_a_write(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET body = body || ' changed'")
    batch = docs.claim()
    prepared = sorted(docs.embed(batch), key=lambda row: row.key)
    application.execute("DELETE FROM docs WHERE id = 2")  # its trigger holds the second target row
    thread = threading.Thread(target=docs.write, args=(batch, prepared))
    thread.start()
    eventually(docs.synced.database.waiting_for_locks, what="the write waits for the application")
    application.execute("DELETE FROM docs WHERE id = 1")  # and wants the first
    application.commit()
    thread.join(10)
    docs.end_backoffs()
    docs.synced.sync()
    assert docs.synced.vectors() == {}
    server_log_is_quiet(docs)


SLOW_INDEX = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $slow$
BEGIN
    PERFORM pg_sleep(0.004);
    INSERT INTO written VALUES (pg_current_xact_id()::text, clock_timestamp());
    RETURN NEW;
END
$slow$;
CREATE TABLE written (xact text, at timestamptz);
GRANT INSERT ON written TO PUBLIC;
CREATE TRIGGER slow BEFORE INSERT ON docs_embedding FOR EACH ROW EXECUTE FUNCTION slow()
"""
"""As if each row went into a large HNSW index."""


def test_slices_learned_on_a_quick_target_are_cut_when_it_has_become_slow(docs: Steps) -> None:
    docs.insert(**{f"_{key}": f"text {key}" for key in range(60)})
    docs.runtime.slice_sizes["public.docs_embedding"] = SliceSize(rows=LARGEST_SLICE_ROWS)
    docs.synced.run(SLOW_INDEX)
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.stored, outcome.released) == (60, 0)
    longest = "SELECT max(took) FROM (SELECT max(at) - min(at) AS took FROM written GROUP BY xact) AS slices"
    assert docs.synced.database.value(longest) < docs.runtime.settings.lock_timeout
    assert docs.synced.database.value("SELECT count(DISTINCT xact) FROM written") >= 60 * 0.004 / 0.05


HALTED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
HALTED_AT_TWO = """
CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $halt$
BEGIN
    FOR tries IN 1 .. 1000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid);
        PERFORM pg_sleep(0.002);
    END LOOP;
    PERFORM pg_sleep(0.07);
    RETURN NEW;
END
$halt$;
CREATE TRIGGER halt BEFORE INSERT ON docs_embedding FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION halt()
"""
"""A write halts before the second row until another session waits for it. It halts for so long that it would itself wait
for the application when the application, after 100 ms, looks for a deadlock."""


def test_a_slow_write_is_not_what_the_application_finds_in_a_deadlock(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET body = body || ' changed'", HALTED_AT_TWO)
    batch = docs.claim()
    prepared = sorted(docs.embed(batch), key=lambda row: row.key)
    application.execute("DELETE FROM docs WHERE id = 2")
    thread = threading.Thread(target=docs.write, args=(batch, prepared))
    thread.start()
    eventually(lambda: docs.synced.database.execute(HALTED), what="the write is between the rows")
    application.execute("DELETE FROM docs WHERE id = 1")
    application.commit()
    thread.join(10)
    docs.end_backoffs()
    docs.synced.sync()
    assert docs.synced.vectors() == {}
    server_log_is_quiet(docs)


GATES = f"""
CREATE TABLE open_gate (id bigint);
GRANT SELECT ON open_gate TO PUBLIC;
CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $halt$
BEGIN
    WHILE NEW.id IN (2, 3) AND NOT EXISTS (SELECT FROM open_gate AS gate WHERE gate.id = NEW.id) LOOP
        PERFORM pg_sleep(0.002);
    END LOOP;
    RETURN NEW;
END
$halt$;
ALTER FUNCTION halt() OWNER TO {OWNER};
CREATE TRIGGER halt BEFORE INSERT ON docs_embedding FOR EACH ROW EXECUTE FUNCTION halt()
"""
"""A write halts before the rows 2 and 3 until their gates are open; a trigger of a stranger's would leave deletes to the
drain."""


def test_a_delete_that_meets_a_write_waits_for_that_slice_and_not_for_the_next(
    docs: Steps, application: psycopg.Connection[object], worker: Callable[..., Steps]
) -> None:
    patient = worker(lock_timeout=30)
    docs.insert(_1="one", _2="two", _3="three")
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET body = body || ' changed'", GATES)
    patient.runtime.slice_sizes["public.docs_embedding"] = SliceSize(rows=2)
    batch = patient.claim()
    prepared = sorted(patient.embed(batch), key=lambda row: row.key)
    writing = threading.Thread(target=write_module.write, args=(patient.runtime, batch, prepared))
    deleting = threading.Thread(target=application.execute, args=("DELETE FROM docs WHERE id = 1",))
    writing.start()
    [(ours,)] = eventually(lambda: docs.synced.database.execute(HALTED), what="row 1 is written, row 2 is not")
    deleting.start()
    waiting = eventually(docs.synced.database.waiting_for_locks, what="the application waits")
    assert waiting == {application.info.backend_pid: [ours]}
    docs.synced.run("INSERT INTO open_gate VALUES (2)")
    deleting.join(10)
    assert writing.is_alive()  # halted before row 3, in the next slice
    application.commit()
    docs.synced.run("INSERT INTO open_gate VALUES (3)")
    writing.join(10)
    docs.synced.sync()
    assert docs.synced.vectors().keys() == {(2,), (3,)}


@pytest.mark.parametrize("statement", ["ALTER TABLE docs ADD COLUMN more int", "TRUNCATE docs"])
def test_ddl_on_the_source_does_not_wait_for_a_provider_call(docs: Steps, statement: str) -> None:
    docs.insert(_1="one")

    def change() -> None:
        with docs.synced.database.connect(options="-c lock_timeout=1s") as connection:
            connection.execute(statement)

    assert docs.process(during=change) is not None
    docs.synced.sync()


@pytest.mark.parametrize("table", ["docs", "docs_embedding"])
def test_a_table_locked_as_a_whole_is_tried_again_later(
    docs: Steps, application: psycopg.Connection[object], table: str
) -> None:
    docs.insert(_1="one")
    docs.drain()
    docs.checks = False  # the check would wait for the lock as well
    application.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    outcome = process(docs.runtime, "docs", Lane.LIVE)
    assert outcome is not None
    assert (outcome.stored, outcome.released) == (0, 1)
    assert docs.work(1, "lease", "attempts") == (None, 0)
    application.rollback()
    docs.end_backoffs()
    docs.synced.sync()
    server_log_is_quiet(docs)


def test_while_a_plain_create_index_locks_the_target_nothing_is_bought_in_vain(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one", _2="two")
    application.execute("CREATE INDEX ON docs_embedding (model)")
    for _ in range(3):
        outcome = docs.process()
        assert outcome is not None
        assert (outcome.stored, outcome.released) == (0, 2)
        assert docs.work(1, "lease", "attempts") == (None, 0)
        docs.end_backoffs()
    assert docs.synced.paid() == 0
    application.commit()
    docs.synced.sync()
    server_log_is_quiet(docs)


@pytest.mark.parametrize("step", ["a write", "a sweep"])
def test_a_migration_that_locks_the_target_weakly_and_then_strongly_meets_no_deadlock(
    docs: Steps, application: psycopg.Connection[object], worker: Callable[..., Steps], step: str
) -> None:
    patient = worker(lock_timeout=30)
    patient.checks = False  # the check would wait for the lock as well
    docs.insert(_1="one")
    docs.synced.sync()
    docs.change(1, "changed")
    if step == "a sweep":
        docs.synced.run("TRUNCATE docs")
        ours = threading.Thread(target=patient.drain)
    else:
        batch = docs.claim()
        ours = threading.Thread(target=patient.write, args=(batch, docs.embed(batch)))
    application.execute("CREATE INDEX ON docs_embedding (model)")
    ours.start()
    eventually(docs.synced.database.waiting_for_locks, what="we wait for the target")
    application.execute("ALTER TABLE docs_embedding ADD COLUMN seen int")
    application.commit()
    ours.join(10)
    docs.synced.sync()


def test_a_drain_that_meets_a_locked_work_row_gives_up_and_loses_nothing(
    docs: Steps, application: psycopg.Connection[object]
) -> None:
    docs.insert(_1="one")
    docs.drain()
    application.execute("SELECT FROM pgvector_sync.work FOR UPDATE")
    docs.change(1, "two")
    assert docs.drain() == 0
    assert docs.synced.events() == [[1]]
    application.rollback()
    docs.synced.sync()
    server_log_is_quiet(docs)
