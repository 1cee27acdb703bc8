"""A pipeline continues after a major version upgrade, done in each of the ways of docs/operations.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.watch.captured import captures_everything
from pgvector_sync.store.migrations import migrate
from support.programs import dump, restore, upgrade
from support.roles import GRANTS_OF_SOURCES, OWNER, set_up_roles
from support.servers import Database, Postgres, new_database, running_postgres
from support.synced import DOCS, Synced, continued
from support.waiting import eventually

pytestmark = pytest.mark.slow


@contextmanager
def pipeline_on(server: Postgres, synced: Synced, name: str) -> Iterator[Synced]:
    """A pipeline in sync in a database of its own, with one change that still waits."""
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    database = Database(server, name)
    set_up_roles(database)
    migrate(database.url_as(OWNER))
    set_up_roles(database)
    database.execute(GRANTS_OF_SOURCES)
    with continued(synced, database) as there:
        there.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two'), (3, 'three')")
        there.pipeline()
        there.run("UPDATE docs SET body = 'still waiting' WHERE id = 3")
        yield there


def goes_on(there: Synced) -> None:
    """What waited is embedded, nothing else is paid for, and after `apply` all is as on a new database."""
    paid = there.paid()
    there.sync()
    assert there.paid() <= paid + 1
    there.apply()  # a newer version can tell an unchanged long text without reading it
    there.settle()
    captures_everything(there)


def test_by_dump_and_restore(synced: Synced, tmp_path: Path):
    with running_postgres(16) as old, running_postgres(18) as new, pipeline_on(old, synced, "app") as before:
        file = dump(before.database, tmp_path / "app.sql")
        with new_database(new) as database, continued(synced, database) as there:
            set_up_roles(database)
            restore(file, database)
            goes_on(there)


def test_by_pg_upgrade(synced: Synced):
    with running_postgres(16) as old, running_postgres(18) as new:
        with pipeline_on(old, synced, "app"):
            pass
        upgrade(old, new)
        with continued(synced, Database(new, "app")) as there:
            assert there.events() == [[3]]
            goes_on(there)


def test_by_logical_replication(synced: Synced, tmp_path: Path):
    """Everything is published, our tables included; workers stop before the application moves, and start on the new one."""
    with (
        running_postgres(16, wal_level="logical") as old,
        running_postgres(18) as new,
        pipeline_on(old, synced, "app") as before,
        new_database(new) as database,
    ):
        set_up_roles(database)
        restore(dump(before.database, tmp_path / "app.sql", "--schema-only"), database)
        before.database.execute("CREATE PUBLICATION upgrade FOR ALL TABLES")
        database.execute(f"CREATE SUBSCRIPTION upgrade CONNECTION '{before.database.url}' PUBLICATION upgrade")
        synchronized = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
        eventually(lambda: database.value(synchronized) == 0, 60, what="the tables are copied")
        before.settle()  # the old one is still at work, and what it drains and writes is replicated
        before.run("UPDATE docs SET body = 'still waiting, again' WHERE id = 3")
        position = before.database.value("SELECT pg_current_wal_lsn()::text")
        reached = "SELECT latest_end_lsn >= %s::pg_lsn FROM pg_stat_subscription WHERE subname = 'upgrade' LIMIT 1"
        eventually(lambda: database.value(reached, position), 60, what="the new server has caught up")
        database.execute("DROP SUBSCRIPTION upgrade")
        with continued(synced, database) as there:
            there.run("UPDATE docs SET body = 'by the application, at once' WHERE id = 1")
            assert sorted(there.events()) == [[1], [3]]
            migrate(database.url)  # sets the sequences
            paid = there.paid()
            there.sync()
            assert there.paid() == paid + 2
            goes_on(there)
