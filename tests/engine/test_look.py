"""The look: one statement that says whether a turn would find anything, so that an idle machine does almost nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from pydantic import SecretStr

from pgvector_sync.engine import pace
from pgvector_sync.engine.jobs import Job
from pgvector_sync.engine.pace import Pace
from pgvector_sync.engine.turn import Engine
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.store import poll
from pgvector_sync.store.due_hints import DueHints
from pgvector_sync.store.poll import Signs
from support.synced import Synced

NOTHING = Signs(events=False, sweeps=False, leases=False, runs=False, work=False, jobs=frozenset())
LEASE = (
    "INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, {column}) "
    "SELECT '00000000-0000-4000-8000-000000000000', id, 'live', 'x', now() + interval '{expires}', "
    "now() + interval '1 hour', {value} FROM pgvector_sync.pipeline"
)
HELD = "UPDATE pgvector_sync.work SET lease = '00000000-0000-4000-8000-000000000000'"
RUN = (
    "INSERT INTO pgvector_sync.run (pipeline_id, kind, visible_at) "
    "SELECT id, 'reconcile', now() + interval '{visible}' FROM pgvector_sync.pipeline"
)
WORK = (
    "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) "
    "SELECT id, '[2]', '{lane}', now(), now() + interval '{visible}' FROM pgvector_sync.pipeline"
)
SPENT = (
    "INSERT INTO pgvector_sync.usage (pipeline_id, day, tokens) "
    "SELECT id, (now() AT TIME ZONE 'UTC')::date, 5 FROM pgvector_sync.pipeline "
    "ON CONFLICT (pipeline_id, day) DO UPDATE SET tokens = 5"
)
STATE = "UPDATE pgvector_sync.pipeline SET state = '{state}', retry_at = now() + interval '{retry}'"


def engine(synced: Synced, *jobs: Job) -> Engine:
    """An engine after its first turn, which is a full one whatever the look finds."""
    started = Engine(synced.runtime.database, synced.runtime.settings, jobs, drain_for=timedelta(seconds=5))
    started.turn(counted_rows=1)
    return started


FOUND: dict[str, tuple[list[str], str]] = {
    "a change": (["INSERT INTO docs VALUES (2, 'two')"], "events"),
    "a TRUNCATE": (["TRUNCATE docs"], "sweeps"),
    "a lease that isn't renewed": (
        [LEASE.format(column="suspected_at", expires="-1 second", value="NULL")],
        "leases",
    ),
    "a lease suspected for longer than the grace": (
        [LEASE.format(column="suspected_at", expires="-1 minute", value="now() - interval '1 minute'")],
        "leases",
    ),
    "a run": ([RUN.format(visible="0")], "runs"),
    "a due row": ([WORK.format(lane="live", visible="0")], "work"),
    "a due row of the bulk lane": ([WORK.format(lane="bulk", visible="0")], "work"),
    "a row of a lost lease": (
        [WORK.format(lane="live", visible="0"), LEASE.format(column="lost_at", expires="0", value="now()"), HELD],
        "work",
    ),
    "a probe after a cool-down": (
        [WORK.format(lane="live", visible="0"), STATE.format(state="cooling_down", retry="0")],
        "work",
    ),
}
NOTHING_TO_DO: dict[str, list[str]] = {
    "nothing": [],
    "a row that backs off": [WORK.format(lane="live", visible="1 hour")],
    "a row of a live lease": [
        WORK.format(lane="live", visible="0"),
        LEASE.format(column="lost_at", expires="1 hour", value="NULL"),
        HELD,
    ],
    "a lost lease without rows": [LEASE.format(column="lost_at", expires="0", value="now()")],
    "a run that waits": [RUN.format(visible="1 hour")],
    "a run that is carried out": [
        RUN.format(visible="0"),
        LEASE.format(column="lost_at", expires="1 hour", value="NULL"),
        HELD.replace(".work", ".run"),
    ],
    "a paused pipeline": [
        WORK.format(lane="live", visible="0"),
        RUN.format(visible="0"),
        STATE.format(state="paused", retry="0"),
    ],
    "a cool-down": [WORK.format(lane="live", visible="0"), STATE.format(state="cooling_down", retry="1 hour")],
    "a stopped pipeline": [
        WORK.format(lane="live", visible="0"),
        RUN.format(visible="0"),
        "UPDATE pgvector_sync.pipeline SET problem = 'x', problem_stops = true",
    ],
    "spent tokens": [
        WORK.format(lane="bulk", visible="0"),
        "UPDATE pgvector_sync.pipeline SET tokens_per_day = 5",
        SPENT,
    ],
}


@pytest.mark.parametrize("what", FOUND)
@pytest.mark.quick_variants(4)
def test_the_look_finds(docs: Synced, what: str) -> None:
    statements, sign = FOUND[what]
    looking = engine(docs)
    docs.run(*statements)
    signs = looking.look()
    assert [name for name in ("events", "sweeps", "leases", "runs", "work") if getattr(signs, name)] == [sign]


@pytest.mark.parametrize("what", NOTHING_TO_DO)
@pytest.mark.quick_variants(4)
def test_the_look_finds_nothing_to_do(docs: Synced, what: str) -> None:
    looking = engine(docs)
    docs.run(*NOTHING_TO_DO[what])
    assert looking.look() == NOTHING
    assert not looking.turn(counted_rows=1).due


def test_a_row_is_found_as_soon_as_its_backoff_ends(docs: Synced) -> None:
    looking = engine(docs)
    docs.run(WORK.format(lane="live", visible="1 hour"))
    assert not looking.look().any
    docs.run("UPDATE pgvector_sync.work SET visible_at = now()")
    assert looking.look().work


def test_an_event_with_an_id_below_the_last_one_is_found_by_the_next_full_scan(docs: Synced) -> None:
    """Ids become visible out of order: a transaction may commit after a later one was drained."""
    looking = engine(docs)
    docs.run("INSERT INTO docs VALUES (2, 'two'), (3, 'three')")
    assert looking.turn(counted_rows=1).moved == 2
    docs.run(
        "INSERT INTO pgvector_sync.outbox (id, source_id, key) OVERRIDING SYSTEM VALUE "
        "SELECT 1, source_id, '[2]' FROM pgvector_sync.pipeline"
    )
    assert not looking.look().events
    looking._drain._scanned_at = 0.0  # as if a second had passed
    assert looking.look().events
    assert looking.turn(counted_rows=1).moved == 1


def test_the_database_says_which_job_is_due(docs: Synced) -> None:
    ran: list[str] = []

    def job(name: str) -> Job:
        return Job(name, timedelta(hours=1), lambda _database, _settings: ran.append(name))

    docs.run("INSERT INTO pgvector_sync.tick (name, visible_at) VALUES ('later', now() + interval '1 hour')")
    looking = Engine(
        docs.runtime.database,
        docs.runtime.settings,
        [job("now"), job("later")],
        drain_for=timedelta(seconds=5),
    )
    assert looking.look().jobs == {"now"}
    looking.turn(counted_rows=1)
    assert ran == ["now"]


def test_what_a_look_misses_is_found_by_a_full_turn(docs: Synced) -> None:
    looking = engine(docs)
    docs.run("INSERT INTO docs VALUES (2, 'two')")
    assert looking.turn(counted_rows=1, signs=NOTHING).moved == 0
    looking._next_full_turn = None  # as if the time had passed
    assert looking.turn(counted_rows=1).moved == 1


@pytest.mark.parametrize(
    ("change", "most"),
    [
        pytest.param("SELECT", 1, id="nothing to do"),
        pytest.param("INSERT INTO docs VALUES (2, 'two')", 12, id="a change"),
    ],
)
def test_a_turn_sends_few_statements(docs: Synced, change: str, most: int) -> None:
    """As the server logs them: BEGIN, COMMIT and the pool's check, which is an empty statement, included.

    The pool doesn't check a connection that was just used.
    """
    statements: list[str] = []
    superuser = docs.runtime.settings.model_copy(update={"database_url": SecretStr(docs.database.url)})
    with open_database(superuser, max_connections=1) as database:
        looking = Engine(database, docs.runtime.settings, (), drain_for=timedelta(seconds=5))
        looking.turn(counted_rows=1)
        docs.run(change)
        with database.connection() as connection:
            connection.add_notice_handler(lambda logged: statements.append(str(logged.message_primary)))
            connection.execute("SET client_min_messages = log; SET log_statement = 'all'")
        looking.turn(counted_rows=1)
    assert 1 <= len(statements) <= most, statements
    assert "pgvector_sync.outbox" in statements[0]


def test_nothing_on_the_search_path_runs_with_the_workers_rights(docs: Synced) -> None:
    """The look runs outside of a transaction, so with the search_path of the database's owner."""
    docs.run("CREATE SCHEMA trap")
    for of in ("timestamptz", "text", "bigint", "int", "uuid", "date"):
        docs.run(
            f"CREATE FUNCTION trap.touched({of}, {of}) RETURNS boolean LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'trapped'; END $$"
        )
        for operator in ("=", "<>", "<", "<=", ">", ">="):
            docs.run(f"CREATE OPERATOR trap.{operator} (LEFTARG = {of}, RIGHTARG = {of}, FUNCTION = trap.touched)")
    docs.run(
        WORK.format(lane="live", visible="0"), RUN.format(visible="0"), "INSERT INTO docs VALUES (3, 'three')"
    )
    with docs.runtime.database.connection() as connection:
        connection.execute("SET search_path = trap, pg_catalog")
        with pytest.raises(psycopg.errors.RaiseException, match="trapped"):
            connection.execute("SELECT statement_timestamp() <= statement_timestamp()")
        signs = poll.look(connection, after_id=0, grace=timedelta(seconds=1), jobs=["a"], hints=DueHints())
        connection.execute("RESET search_path")
    assert signs == replace(NOTHING, events=True, work=True, runs=True, jobs=frozenset({"a"}))


def test_the_pause_grows_while_nothing_happens_and_is_short_while_changes_flow() -> None:
    idle = Pace(timedelta(milliseconds=250))
    assert [idle.pause(waiting=False) / timedelta(milliseconds=1) for _ in range(5)] == [50, 100, 200, 250, 250]
    idle.turned(moved=True)
    assert idle.pause(waiting=False) == pace.FLOWING


def test_work_that_waits_for_a_worker_is_counted_less_often_than_a_change_is_looked_for() -> None:
    """A change calls for a turn at once, whatever else there is."""
    waiting = replace(NOTHING, work=True)
    relay = Pace(timedelta(milliseconds=250))
    assert relay.calls_for_a_turn(waiting)
    relay.turned(moved=False)
    assert not relay.calls_for_a_turn(waiting)
    assert relay.calls_for_a_turn(replace(waiting, events=True))
    assert relay.pause(waiting=True) == pace.WAITING
    assert not relay.calls_for_a_turn(NOTHING)


def test_no_pause_is_longer_than_the_setting() -> None:
    quick = Pace(timedelta(milliseconds=5))
    assert quick.pause(waiting=True) == timedelta(milliseconds=5)
    quick.turned(moved=True)
    assert quick.pause(waiting=False) == timedelta(milliseconds=5)
