"""Every hot statement uses an index: with 100,000 rows waiting, and behind 100,000 dead tuples that can't be vacuumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from psycopg import sql

from pgvector_sync.database import begin
from pgvector_sync.model import Key, Lane, Passage, Pipeline
from pgvector_sync.store import drift, leases, locks, outbox, poll, rows, runs, work
from pgvector_sync.store.due_hints import DueHints
from pgvector_sync.store.leases import Lease
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.work import ClaimedRow, Holding
from support.explained import Explained, Plan
from support.servers import Database, Postgres, new_database
from support.synced import DOCS, Synced, runtime_of
from support.waiting import eventually

ROWS = 100_000
OURS = ("outbox", "work", "docs", "docs_embedding")
LEASE = UUID(int=7)
MINUTE = timedelta(minutes=1)
BATCH = 256
KEYS: list[Key] = [(key,) for key in range(90_001, 90_001 + BATCH)]
"""Leased by LEASE, in flight."""

BACKFILL = [
    DOCS,
    f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) AS i",
]
WAIT = f"""
    INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at, attempts, lease, parked_at, verdict)
    SELECT p.id, jsonb_build_array(i), CASE WHEN i % 2 = 0 THEN 'live' ELSE 'bulk' END, now(),
           now() - i * interval '1 millisecond', 0, NULL::uuid, NULL::timestamptz, NULL
    FROM generate_series(1, 90000) AS i, pgvector_sync.pipeline p
    UNION ALL  -- twenty batches in flight, all of the live lane
    SELECT p.id, jsonb_build_array(90000 + i), 'live', now(), now(), 2,
           ('00000000-0000-0000-0000-' || lpad(to_hex(7 + (i - 1) / {BATCH}), 12, '0'))::uuid, NULL, NULL
    FROM generate_series(1, {20 * BATCH}) AS i, pgvector_sync.pipeline p
    UNION ALL  -- four that have died
    SELECT p.id, jsonb_build_array(96000 + i), 'live', now(), now() - interval '1 minute', 1 + i % 5,
           'ffffffff-0000-0000-0000-000000000000', NULL, NULL
    FROM generate_series(1, {4 * BATCH}) AS i, pgvector_sync.pipeline p
    UNION ALL  -- dead letters
    SELECT p.id, jsonb_build_array(98000 + i), 'live', now(), now(), 5, NULL, now(), 'dead'
    FROM generate_series(1, 2000) AS i, pgvector_sync.pipeline p
"""
LEASES = """
    INSERT INTO pgvector_sync.lease (id, pipeline_id, lane, holder, expires_at, ends_at, lost_at)
    SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(7 + i), 12, '0'))::uuid, p.id, 'live', 'host:family:1',
           now() + interval '1 hour', now() + interval '1 hour', NULL
    FROM generate_series(0, 19) AS i, pgvector_sync.pipeline p
    UNION ALL
    SELECT 'ffffffff-0000-0000-0000-000000000000', p.id, 'live', 'host:family:2', now(), now(), now()
    FROM pgvector_sync.pipeline p
"""
EVENTS = f"""
    INSERT INTO pgvector_sync.outbox (source_id, key)
    SELECT s.id, jsonb_build_array(i) FROM generate_series(1, {ROWS}) AS i, pgvector_sync.source s
"""
VECTORS = f"""
    INSERT INTO docs_embedding
    SELECT i, 0, NULL, ARRAY[i, 1, 0, 0, 0, 0, 0, 0]::vector, sha256(('text ' || i)::bytea), 'model', now()
    FROM generate_series(1, {ROWS}) AS i
"""
DEAD = [
    f"UPDATE pgvector_sync.work SET key = jsonb_build_array((key ->> 0)::int + {ROWS})",
    "DELETE FROM pgvector_sync.work",
    "DELETE FROM pgvector_sync.outbox",
    "DELETE FROM pgvector_sync.lease",
    "ALTER TABLE docs DISABLE TRIGGER USER",
    "UPDATE docs SET note = 'x'",
    "ALTER TABLE docs ENABLE TRIGGER USER",
    "UPDATE docs_embedding SET model = 'model'",
]


@dataclass
class Crowd:
    database: Database
    pipeline: Pipeline
    shape: Shape
    after: int
    """The id of the last event that is gone."""


@pytest.fixture(
    scope="module",
    params=[
        "never analyzed",
        "analyzed",
        *(pytest.param(crowd, marks=pytest.mark.slow) for crowd in ("dead tuples", "dead tuples, analyzed")),
    ],
)
def crowd(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    template: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crowd]:
    with new_database(postgres, template=template.name) as database, database.connect() as held:
        for table in ("work", "outbox"):
            database.execute(f"ALTER TABLE pgvector_sync.{table} SET (autovacuum_enabled = false)")
        for statement in BACKFILL:
            database.execute(statement)
        with runtime_of(database.url, lambda _: None) as runtime:  # type: ignore[arg-type, return-value]
            endpoint = SimpleNamespace(base_url="http://127.0.0.1:9/v1")
            file = tmp_path_factory.mktemp("plans") / "pgvector-sync.toml"
            synced = Synced(database, endpoint, runtime, runtime, file)  # type: ignore[arg-type]
            synced.declare()
            synced.apply()
            shape = synced.shape()
        for table in ("docs", "docs_embedding"):
            database.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        for statement in (WAIT, LEASES, EVENTS, VECTORS):
            database.execute(statement)
        if "dead" in request.param:
            held.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            held.execute("SELECT 1")  # from here on nothing can be vacuumed, and no index entry forgotten
            for statement in (*DEAD, WAIT, LEASES, EVENTS):
                database.execute(statement)
        if request.param in ("analyzed", "dead tuples, analyzed"):
            database.execute("ANALYZE pgvector_sync.work, pgvector_sync.outbox, docs, docs_embedding")
        after = database.value("SELECT min(id) - 1 FROM pgvector_sync.outbox")
        yield Crowd(database, shape.pipeline, shape, after)


Run = Callable[[psycopg.Connection[Any], Crowd], object]


def explain(crowd: Crowd, run: Run, *, by_key: bool = False) -> list[Plan]:
    """The plans of what `run` does in a transaction of ours, which is then rolled back."""
    explained = Explained(crowd.database.url)
    with explained as connection, begin(connection, lock_timeout=MINUTE, by_key=by_key, force_rollback=True):
        explained.plans.clear()
        run(connection, crowd)
    return explained.plans


def drain(connection: psycopg.Connection[Any], after: int) -> object:
    outbox.waits(connection, after_id=after)
    assert locks.try_lock_drain(connection)
    return outbox.move(connection, after_id=after, limit=1_000, burst=500)


def claim(lane: Lane) -> Run:
    return lambda c, crowd: work.claim(
        c,
        crowd.pipeline,
        lane,
        Lease(UUID(int=1), "host:family:3", MINUTE, MINUTE),
        limit=BATCH,
        max_attempts=5,
        hints=DueHints(),
    )


def held(act: Callable[[Holding, psycopg.Connection[Any]], object]) -> Run:
    return lambda c, crowd: act(Holding(crowd.pipeline, LEASE), c)


CLAIMED = [
    ClaimedRow(key, 1, 2, force=False, verdict=None, failed_fingerprint=None, error_class=None, error_message=None)
    for key in KEYS
]
WORDS = {"error_class": "unavailable", "error_message": "words"}
PRINTS = [sha256(b"text %d" % key).digest() for (key,) in KEYS]
VECTOR = np.ones(8, dtype=np.float32)

HOT: dict[str, Run] = {
    "outbox.drain": lambda c, _: drain(c, 0),
    "outbox.drain after its hint": lambda c, crowd: drain(c, crowd.after),
    "outbox.lock_first": lambda c, _: locks.try_lock_drain(c) and outbox.lock_first(c, after_id=0),
    "outbox.sweeps": lambda c, _: outbox.sweeps(c),
    "work.park_crashed": lambda c, crowd: work.park_crashed(c, crowd.pipeline, Lane.LIVE, max_attempts=5),
    "work.claim_expired": claim(Lane.LIVE),
    "work.claim": claim(Lane.BULK),
    "work.note_attempt": held(lambda h, c: h.note_attempt(c, dict(zip(KEYS, PRINTS, strict=True)))),
    "work.lock_claimed": held(lambda h, c: h.lock(c, CLAIMED)),
    "work.ack": held(
        lambda h, c: h.ack(c, list(h.lock(c, CLAIMED).values()), stored=2, removed=0, absent=0, unchanged=0)
    ),
    "work.release": held(lambda h, c: h.release(c, KEYS)),
    "work.release_superseded": held(lambda h, c: h.release_superseded(c, KEYS, first=MINUTE, longest=MINUTE)),
    "work.back_off": held(lambda h, c: h.back_off(c, KEYS, first=MINUTE, longest=MINUTE, max_attempts=5, **WORDS)),
    "work.park": held(lambda h, c: h.park(c, [(row, None) for row in CLAIMED], **WORDS)),
    "work.held": lambda c, crowd: work.held(c, crowd.pipeline),
    "leases.end": held(lambda h, c: h.end(c)),
    "leases.expire": lambda c, _: leases.expire(c, grace=MINUTE),
    "leases.renew": lambda c, _: leases.renew(c, [LEASE], expires_after=MINUTE),
    "work.due": lambda c, _: work.due(c, limit=4_096, hints=DueHints()),
    "poll.look": lambda c, crowd: poll.look(c, after_id=crowd.after, grace=MINUTE, jobs=[], hints=DueHints()),
    "runs.enqueue": lambda c, crowd: runs.enqueue(c, crowd.pipeline, 1, [(key,) for key in range(89_500, 90_500)]),
    "runs.bulk_depth": lambda c, crowd: runs.bulk_depth(c, crowd.pipeline, limit=20_000),
    "source.read": lambda c, crowd: rows.read(c, crowd.shape, KEYS, text_limit=1_000),
    "source.look": lambda c, crowd: rows.look(c, crowd.shape, KEYS, text_limit=1_000),
    "source.page": lambda c, crowd: rows.page(c, crowd.shape, (50_000,), limit=1_000, text_limit=1_000),
    "target.reusable": lambda c, crowd: rows.reusable(c, crowd.shape, PRINTS),
    "target.write": lambda c, crowd: rows.write(
        c,
        crowd.shape,
        [(Passage(key, 0, "", fingerprint), VECTOR) for key, fingerprint in zip(KEYS, PRINTS, strict=True)],
    ),
    "target.trim": lambda c, crowd: rows.trim(c, crowd.shape, KEYS),
    "target.remove": lambda c, crowd: rows.remove(c, crowd.shape, KEYS),
    "target.lock_page": lambda c, crowd: rows.lock_page(c, crowd.shape, (50_000,), limit=500),
    "target.remove_orphans": lambda c, crowd: rows.remove_orphans(c, crowd.shape, KEYS),
}

TOUCHES = {"work.due": 20_000, "runs.bulk_depth": 20_000, "work.claim_expired": 13_000}
"""Rows. PostgreSQL 16 reads all rows in flight for the lost ones, twice, until the table is analyzed for the first time."""
"""Rows of a table that a statement may look at, where it is not 7,000: those that are leased, and a few."""
PAIRS = BATCH * BATCH
BY_KEY = {"target.reusable", "outbox.drain", "outbox.drain after its hint"}
"""Statements that need a transaction `by_key` as long as their table isn't analyzed; the others have one as well."""


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_uses_an_index(crowd: Crowd, name: str) -> None:
    plans = explain(crowd, HOT[name], by_key=name in BY_KEY)
    assert plans
    for plan in plans:
        print(plan)
        assert plan.seq_scans.intersection(OURS) == set()
        assert plan.pairs_thrown_away <= PAIRS
        touched = {relation: plan.touched(relation) for relation in OURS}
        assert max(touched.values()) <= TOUCHES.get(name, 7_000), touched


@pytest.mark.parametrize("name", ["work.park_crashed", "work.claim_expired", "work.due"])
def test_rows_in_flight_are_not_read_while_no_lease_is_lost(crowd: Crowd, name: str) -> None:
    def run(connection: psycopg.Connection[Any], crowd: Crowd) -> None:
        connection.execute(sql.SQL("UPDATE pgvector_sync.lease SET lost_at = NULL"))
        if name == "work.due":
            work.due(connection, limit=100, hints=DueHints())
        else:
            HOT[name](connection, crowd)

    for plan in explain(crowd, run, by_key=True):
        print(plan)
        assert plan.touched("work") < 1_000


@pytest.mark.parametrize("deep", [False, True])
def test_a_page_of_a_reconciliation_reads_that_page_and_the_outbox_once(crowd: Crowd, deep: bool) -> None:
    *_, page = explain(
        crowd, lambda c, _: drift.page(c, crowd.shape, (50_000,), limit=1_000, deep=deep, text_limit=1_000)
    )
    print(page)
    assert page.seq_scans.intersection(OURS) <= {"outbox"}
    touched = {relation: page.touched(relation) for relation in OURS}
    assert touched.pop("outbox") <= crowd.after + ROWS + 1_000
    assert max(touched.values()) <= 7_000, touched


def test_the_hint_spares_the_drain_the_dead_tuples_before_it(crowd: Crowd) -> None:
    if crowd.after == 0:
        pytest.skip("nothing has died")
    explain(crowd, HOT["outbox.drain"], by_key=True)  # the first look at new events reads more than later ones
    *_, without = explain(crowd, HOT["outbox.drain"], by_key=True)
    *_, with_hint = explain(crowd, HOT["outbox.drain after its hint"], by_key=True)
    spared = without.buffers("outbox") - with_hint.buffers("outbox")
    assert spared > ROWS / 200, (without.buffers("outbox"), with_hint.buffers("outbox"))


@pytest.mark.slow
def test_a_batch_of_a_first_backfill_reads_no_table_from_end_to_end(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 3000) AS i")
    synced.declare()
    synced.apply()
    synced.run("ALTER TABLE docs_embedding SET (autovacuum_enabled = false)")
    synced.settle()
    scans = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE relname = 'docs_embedding'"

    def reported() -> int:
        """Statistics arrive a moment after the transaction."""
        return int(
            synced.database.value(
                "SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE relname = 'docs_embedding'"
            )
        )

    eventually(lambda: reported() == 3000)
    assert synced.database.value(scans) <= 3, "those of `apply`, which found it empty"
