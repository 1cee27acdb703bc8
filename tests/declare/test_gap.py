"""Installing triggers on a busy source, without blocking its writers or missing their changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from pgvector_sync.declare import gap as gap_module
from pgvector_sync.declare.apply import apply_plan
from pgvector_sync.declare.plan import Plan
from pgvector_sync.errors import Refused
from support.roles import OWNER
from support.synced import DOCS, OURS, Synced, session
from support.waiting import eventually


@contextmanager
def in_the_background(synced: Synced, plan: Plan) -> Iterator[list[BaseException]]:
    """Apply in a thread, and wait for it at the end of the block."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            apply_plan(synced.owner.database, plan, say=synced.said.append)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield errors
    finally:
        thread.join(30)
        assert not thread.is_alive()


def test_apply_waits_for_a_long_transaction_without_blocking_other_writers(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare()
    plan = synced.plan()
    with session(synced.database) as slow:
        slow.execute("INSERT INTO docs VALUES (2, 'committed just before the trigger')")
        with in_the_background(synced, plan) as errors:
            eventually(lambda: synced.said, what="it says that it waits")
            assert "waiting for a lock on public.docs" in synced.said[0]
            # writers queue behind a waiting CREATE TRIGGER, which gives up after DDL_LOCK_TIMEOUT: all of these get
            # through while the long transaction is still open
            with synced.database.connect() as writer:
                writer.execute("SET lock_timeout = '10s'")
                for number in range(10, 25):
                    writer.execute("INSERT INTO docs VALUES (%s, 'while it waits')", [number])
            # and between two tries no lock is requested
            eventually(lambda: not synced.database.waiting_for_locks(), what="no session waits for a lock")
            assert synced.names() == []
            slow.commit()
        assert errors == []
    assert len(synced.said) == 1
    assert synced.plan().empty
    synced.sync()
    assert len(synced.vectors()) == 17


def test_a_writer_queued_behind_apply_continues_once_apply_gives_up_its_lock(synced: Synced):
    synced.run(DOCS)
    synced.declare()
    plan = synced.plan()
    with session(synced.database) as slow, session(synced.database) as other:
        slow.execute("INSERT INTO docs VALUES (1, 'one')")
        with in_the_background(synced, plan) as errors:
            waits = "SELECT count(*) FROM pg_locks WHERE relation = 'docs'::regclass AND mode = 'ShareRowExclusiveLock' AND NOT granted"
            eventually(lambda: synced.database.value(waits), what="CREATE TRIGGER waits")
            other.execute("SET lock_timeout = '5s'")
            other.execute("INSERT INTO docs VALUES (2, 'two')")  # while slow is still open
            other.commit()
            slow.commit()
        assert errors == []
    synced.sync()
    assert len(synced.vectors()) == 2


def test_rows_committed_before_and_after_the_trigger_is_installed_are_all_embedded(synced: Synced):
    synced.run(DOCS)
    synced.declare()
    plan = synced.plan()
    stop = threading.Event()
    written = []

    def write() -> None:
        with synced.database.connect() as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO docs VALUES (%s, %s)", [len(written), f"row {len(written)}"])
                written.append(None)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(written) > 50)
        with in_the_background(synced, plan) as errors:
            pass
        count = len(written)
        eventually(lambda: len(written) > count + 50)
    finally:
        stop.set()
        writer.join()
    assert errors == []
    synced.sync()
    assert len(synced.vectors()) == len(written)


def test_apply_gives_up_without_a_lock_and_says_what_to_do(synced: Synced, monkeypatch):
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(gap_module, "DDL_LOCK_TIMEOUT", timedelta(milliseconds=50))
    synced.run(DOCS)
    synced.declare()
    with session(synced.database) as slow:
        slow.execute("INSERT INTO docs VALUES (1, 'one')")
        with pytest.raises(Refused, match="no lock on") as refused:
            synced.apply()
        assert "pg_stat_activity" in refused.value.hint
        slow.commit()
    assert synced.names() == []
    assert synced.database.value("SELECT to_regclass('docs_embedding')") is None
    synced.apply()
    synced.sync()


def test_the_holder_of_the_lock_is_named_with_what_to_do(synced: Synced, monkeypatch):
    synced.run(f"GRANT pg_read_all_stats TO {OWNER}")
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(gap_module, "DDL_LOCK_TIMEOUT", timedelta(milliseconds=50))
    synced.run(DOCS)
    synced.declare()
    with session(synced.database, application_name="nightly") as vacuum:
        vacuum.execute(
            "LOCK TABLE docs IN SHARE UPDATE EXCLUSIVE MODE"
        )  # like VACUUM and CREATE INDEX CONCURRENTLY
        pid = vacuum.info.backend_pid
        with pytest.raises(Refused) as refused:
            synced.apply()
    assert f"held by pid {pid}, nightly, role postgres, idle in transaction for " in str(refused.value)
    assert "with ShareUpdateExclusiveLock on public.docs" in str(refused.value)
    assert f"SELECT pg_terminate_backend({pid});" in refused.value.hint
    assert f"pid {pid}, nightly" in synced.said[0]
    synced.run(f"REVOKE pg_read_all_stats FROM {OWNER}")


def test_a_prepared_transaction_that_holds_the_lock_is_named(synced: Synced, monkeypatch):
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(gap_module, "DDL_LOCK_TIMEOUT", timedelta(milliseconds=50))
    synced.run(DOCS)
    synced.declare()
    with session(synced.database) as writer:
        writer.execute("INSERT INTO docs VALUES (1, 'one')")
        writer.execute("PREPARE TRANSACTION 'forgotten'")
        writer.commit()
    try:
        with pytest.raises(Refused, match="the prepared transaction forgotten") as refused:
            synced.apply()
    finally:
        synced.run("ROLLBACK PREPARED 'forgotten'")
    assert "ROLLBACK PREPARED 'forgotten'" in refused.value.hint


def test_the_holder_of_a_lock_on_a_partition_is_named(synced: Synced, monkeypatch):
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(gap_module, "DDL_LOCK_TIMEOUT", timedelta(milliseconds=50))
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (10)",
    )
    synced.declare()
    with session(synced.database) as slow:
        slow.execute("LOCK TABLE docs_1 IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(Refused, match=r"with ShareUpdateExclusiveLock on public\.docs_1"):
            synced.apply()


@pytest.fixture
def slow_autovacuum(synced: Synced) -> Iterator[Callable[[str], int]]:
    """Keep a real autovacuum worker busy on a table for minutes; returns its pid. It isn't cancelled for 1 s."""
    database = synced.database
    with database.server.connect() as server:
        server.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        server.execute("SELECT pg_reload_conf()")
        synced.run(f"ALTER DATABASE {database.name} SET deadlock_timeout = '1s'")  # the default

        def begin(table: str) -> int:
            synced.run(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, "
                "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)",
                f"UPDATE {table} SET body = body || '!'",
            )
            holder = """
                SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                WHERE l.relation = %s::regclass AND l.mode = 'ShareUpdateExclusiveLock'
                AND a.backend_type = 'autovacuum worker'
            """
            return eventually(lambda: database.execute(holder, table), 60, what="autovacuum has begun")[0][0]

        yield begin
        server.execute("ALTER SYSTEM RESET autovacuum_naptime")
        server.execute("SELECT pg_reload_conf()")


@pytest.mark.slow
def test_autovacuum_is_cancelled_for_apply_and_writers_wait_only_briefly(
    synced: Synced,
    slow_autovacuum: Callable[[str], int],
    role: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=20))
    synced.run(DOCS, "INSERT INTO docs SELECT g, repeat('text ', 200) || g FROM generate_series(1, 5000) g")
    # a role that can't see which sessions are autovacuum
    owner = role(
        "owner", *OURS, "GRANT CREATE ON SCHEMA public TO {role}", "GRANT SELECT, TRIGGER ON docs TO {role}"
    )
    synced.declare()
    pid = slow_autovacuum("docs")
    waits: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with synced.database.connect() as connection:
            number = 10_000
            while not stop.is_set():
                started, number = time.monotonic(), number + 1
                connection.execute("INSERT INTO docs VALUES (%s, 'while it waits')", [number])
                waits.append(time.monotonic() - started)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with synced.acting_as(owner) as runtime:
            synced.apply(runtime)
    finally:
        stop.set()
        writer.join()
    assert f"autovacuum (pid {pid})" in synced.said[0]
    assert synced.plan().empty
    assert max(waits) < 3  # 1.5 s plus a margin for a busy machine


def test_a_reader_does_not_block_apply(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare()
    with session(synced.database) as reader:
        reader.execute("SELECT * FROM docs").fetchall()
        synced.apply()
    assert synced.said == []
    synced.sync()


def test_remove_also_waits_for_the_lock(synced: Synced, monkeypatch):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    monkeypatch.setattr(gap_module, "DDL_TIMEOUT", timedelta(seconds=0.3))
    monkeypatch.setattr(gap_module, "DDL_LOCK_TIMEOUT", timedelta(milliseconds=50))
    with session(synced.database) as slow:
        slow.execute("INSERT INTO docs VALUES (2, 'two')")
        with pytest.raises(Refused, match="no lock on"):
            synced.remove()
        slow.commit()
    synced.remove()
    assert synced.database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0


def test_of_two_applies_at_once_one_is_refused_with_a_reason(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare()
    first, second = synced.plan(), synced.plan()
    with in_the_background(synced, first) as errors, in_the_background(synced, second) as others:
        pass
    failed = [*errors, *others]
    assert len(failed) == 1
    assert isinstance(failed[0], Refused)
    assert "another apply ran at the same time" in str(failed[0])
    assert synced.plan().empty
    synced.sync()
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.run") == 1


def test_a_column_that_gets_another_type_between_plan_and_apply_is_compared_as_that_type_requires(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text, price int)", "INSERT INTO docs VALUES (1, 'one', 1)"
    )
    synced.declare(text=["body", "price"])
    plan = synced.plan()
    synced.run("ALTER TABLE docs ALTER price TYPE numeric")
    apply_plan(synced.owner.database, plan, say=print)
    synced.sync()
    synced.run("UPDATE docs SET price = 1.0")  # equal, but it reads otherwise
    assert synced.events() == [[1]]
    synced.sync()
    assert not any(planned.missing_triggers for planned in synced.plan().pipelines)
