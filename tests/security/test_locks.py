"""A role that can only connect, or only read our tables, can't stop a drain, a claim or a migration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgvector_sync.batch.claim import claim
from pgvector_sync.database.statements import sql_folder
from pgvector_sync.model import Lane, Pipeline
from pgvector_sync.store import locks, pipelines
from pgvector_sync.store.migrations import migrate, migrations
from support import synced as with_endpoint
from support.servers import Database
from support.steps import Steps, another_worker
from support.synced import session

READER = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
)
READS_ALL = ("GRANT pg_read_all_data TO {role}",)
ADVISORY = (
    "SELECT pg_advisory_lock(x'70677673'::int, number) FROM generate_series(0, 3) AS number",
    "SELECT pg_advisory_lock(x'70677663'::int, number) FROM generate_series(0, 9) AS number",
    "SELECT pg_advisory_lock(number) FROM generate_series(0, 9) AS number",
)
"""Advisory locks on many keys, which would stop migrations, drains and claims if these took advisory locks."""
WEAK = ("FOR KEY SHARE", "FOR SHARE", "FOR NO KEY UPDATE", "FOR UPDATE")
MODES = (
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)


@contextmanager
def attacker(database: Database, role: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of the attacker's role, which stays open."""
    with psycopg.connect(database.url_as(role)) as connection:
        yield connection
        connection.rollback()


def embeds(docs: Steps) -> bool:
    """Whether a change is drained, claimed and embedded."""
    docs.insert(_1="text")
    began = time.monotonic()
    docs.synced.sync()
    return docs.has_vector_of(1, "text") and time.monotonic() - began < 10


def test_a_role_that_can_merely_connect_cant_stop_drains_or_claims_with_advisory_locks(
    docs: Steps, role: Callable[..., str]
) -> None:
    with attacker(docs.synced.database, role("stranger")) as stranger:
        for lock in ADVISORY:
            stranger.execute(lock)
        assert embeds(docs)


def test_a_role_that_can_merely_connect_cant_stop_a_first_migration(bare_database: Database) -> None:
    with with_endpoint.role(bare_database, "stranger") as role, attacker(bare_database, role) as stranger:
        for lock in ADVISORY:
            stranger.execute(lock)
        began = time.monotonic()
        assert len(migrate(bare_database.url)) == len(migrations())
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("grants", [(), READER, READS_ALL], ids=["nothing", "our tables", "all tables"])
def test_a_role_that_may_only_read_can_take_none_of_our_locks(
    docs: Steps, role: Callable[..., str], grants: tuple[str, ...]
) -> None:
    docs.insert(_7="so that a claim has made its row")
    docs.synced.sync()
    with attacker(docs.synced.database, role("reader", *grants)) as reader:
        attempts = [
            f"SELECT FROM pgvector_sync.{table} {strength}" for table in ("lock", "work") for strength in WEAK
        ]
        attempts += [
            f"LOCK TABLE pgvector_sync.{table} IN {mode} MODE"
            for table in ("lock", "applied_migration", "outbox", "sweep", "parked", "work", "pipeline", "lease")
            for mode in MODES
        ]
        for attempt in attempts:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction():
                reader.execute(attempt)


def test_a_reader_with_an_open_transaction_holds_up_neither_drains_nor_claims_nor_migrations(
    docs: Steps, role: Callable[..., str], tmp_path: Path
) -> None:
    """The strongest attack of such a role: a transaction that has read all our tables and stays open."""
    folder = copied_migrations(tmp_path)
    with attacker(docs.synced.database, role("reader", *READER)) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        reader.execute("SELECT pg_current_xact_id()")
        tables = reader.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pgvector_sync'::regnamespace AND relkind = 'r'"
        )
        for (table,) in tables.fetchall():
            reader.execute(f"SELECT count(*) FROM {table}")
            reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        assert embeds(docs)
        assert [found.name for found in migrate(docs.synced.database.url, folder=folder)] == ["more"]


def copied_migrations(folder: Path) -> Path:
    """A folder with our migrations and one more."""
    for path in (sql_folder() / "migrations").glob("*.sql"):
        (folder / path.name).write_text(path.read_text())
    (folder / f"{migrations()[-1].number + 1:04d}_more.sql").write_text(
        "CREATE TABLE pgvector_sync.more (id int);"
    )
    return folder


def test_our_own_locks_are_given_up_after_50_ms(docs: Steps) -> None:
    docs.insert(_1="text")
    docs.drain()
    docs.claim()
    with session(docs.synced.database) as another:
        another.execute("SELECT FROM pgvector_sync.lock FOR UPDATE")
        for take in (locks.lock_drain, lambda c: locks.lock_claims(c, pipeline(docs))):
            began = time.monotonic()
            with pytest.raises(psycopg.errors.LockNotAvailable), docs.runtime.database.transaction() as connection:
                take(connection)
            assert 0.04 < time.monotonic() - began < 1
        began = time.monotonic()
        with docs.runtime.database.transaction() as connection:
            assert not locks.try_lock_drain(connection)
        assert time.monotonic() - began < 1


def pipeline(docs: Steps) -> Pipeline:
    with docs.runtime.database.transaction() as connection:
        return pipelines.require_pipeline(connection, docs.pipeline)


def test_a_pipeline_whose_claims_are_held_holds_up_no_other(docs: Steps) -> None:
    docs.synced.declare("notes", text=["note"])
    docs.synced.apply()
    docs.synced.sync()
    docs.synced.run("INSERT INTO docs VALUES (1, 'body', 'note')")
    docs.drain()
    with another_worker(docs.synced) as frozen, frozen.runtime.database.transaction() as connection:
        locks.lock_claims(connection, pipeline(docs))
        began = time.monotonic()
        batch = claim(docs.runtime, "notes", Lane.LIVE)
        assert batch is not None
        assert time.monotonic() - began < 1


def test_an_idle_deployment_takes_no_lock_and_uses_no_transaction_id(docs: Steps) -> None:
    docs.insert(_1="text")
    docs.synced.sync()
    taken = "SELECT id, xmax::text FROM pgvector_sync.lock ORDER BY id"
    before = docs.synced.database.execute(taken)
    assert len(before) == 2
    for _ in range(3):
        assert docs.drain() == 0
        docs.synced.sync()
    assert docs.synced.database.execute(taken) == before
    docs.change(1, "changed")
    docs.synced.sync()
    assert docs.synced.database.execute(taken) != before


def test_lost_rows_of_locks_are_inserted_again(docs: Steps) -> None:
    """As after a restore without data."""
    docs.synced.run("TRUNCATE pgvector_sync.lock")
    assert embeds(docs)
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.lock") == 2


def test_removing_a_pipeline_removes_its_lock(docs: Steps) -> None:
    assert embeds(docs)
    docs.synced.remove()
    assert docs.synced.database.execute("SELECT id FROM pgvector_sync.lock") == [(0,)]


@pytest.mark.slow
def test_repeated_locking_doesnt_grow_the_table(docs: Steps) -> None:
    assert embeds(docs)
    versions = "SELECT array_agg(ctid::text ORDER BY id) FROM pgvector_sync.lock"
    before = docs.synced.database.value(versions)
    for turn in range(20):
        docs.change(1, f"text {turn}")
        docs.synced.sync()
    assert docs.synced.database.value(versions) == before
