"""Programs of two releases on one schema: they go on after an additive migration, and stop after any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pgvector_sync.database.statements import sql_folder
from pgvector_sync.store.migrations import SHUTS_OUT, migrate, migrations
from support.cluster import Cluster
from support.processes import COMMAND, Processes
from support.servers import Database
from support.synced import DOCS, Synced

ADDITIVE = """
ALTER TABLE pgvector_sync.pipeline ADD COLUMN later_option int;
ALTER TABLE pgvector_sync.work ADD COLUMN later_fact text;
CREATE TABLE pgvector_sync.later (id int);
"""


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a later release."""
    return Path(shutil.copytree(sql_folder() / "migrations", tmp_path / "migrations"))


def release(database: Database, folder: Path, body: str) -> None:
    """Adds a migration to the later release, and migrates with it."""
    number = len(list(folder.glob("*.sql"))) + 1
    (folder / f"{number:04d}_later.sql").write_text(body)
    assert len(migrate(database.url, folder=folder)) == 1


def test_the_statements_of_this_release_work_with_an_additive_schema_and_data_is_kept(
    synced: Synced, later: Path
) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 5) n")
    synced.pipeline()
    before = synced.vectors()
    release(synced.database, later, ADDITIVE)
    assert synced.vectors().keys() == before.keys()
    assert migrate(synced.database.url) == [], "a deployment that is rolled back runs it again"
    synced.run("UPDATE docs SET body = 'changed' WHERE id = 2", "DELETE FROM docs WHERE id = 3")
    synced.declare("more", target="public.more")
    synced.apply()
    synced.sync()


@pytest.mark.slow
def test_a_running_worker_goes_on_after_an_additive_migration_and_a_new_one_starts(
    cluster: Cluster, later: Path
) -> None:
    running = cluster.worker()
    release(cluster.synced.database, later, ADDITIVE)
    cluster.insert(5)
    cluster.settles()
    assert running.terminate() == 0
    cluster.worker()
    cluster.insert(5, start=6)
    cluster.settles()


@pytest.mark.slow
def test_a_running_worker_stops_taking_work_once_it_is_shut_out(cluster: Cluster, later: Path) -> None:
    worker = cluster.worker()
    release(cluster.synced.database, later, f"{SHUTS_OUT}\nSELECT 1;")
    worker.wait_for(r"schema_refused.*shuts out this program")
    cluster.insert(5)
    worker.wait_for(lambda: worker.printed.count("schema_refused") >= 1)
    assert cluster.synced.vectors() == {}
    assert worker.exit_code is None, "it waits, since a restart wouldn't help"
    cluster.synced.run("UPDATE pgvector_sync.applied_migration SET shuts_out = false")
    cluster.settles()
    worker.wait_for("schema_fits")


@pytest.mark.slow
def test_workers_of_an_app_wait_for_the_schema_and_become_active_once_migrated(
    bare_database: Database, redis_url: str, processes: Processes
) -> None:
    processes.env |= {"DATABASE_URL": bare_database.url, "REDIS_URL": redis_url}
    worker = processes.start(COMMAND[0], "-m", "celery", "-A", "pgvector_sync.celery_app", "worker", "-c", "1")
    worker.wait_for(r"schema_refused.*pgvector-sync migrate.*no pgvector_sync schema")
    assert processes.command("migrate").wait() == 0
    worker.wait_for("schema_fits")
    worker.wait_for(
        lambda: bare_database.value("SELECT count(*) FROM pgvector_sync.worker") == 1,
    )
    assert "Traceback" not in worker.printed
    assert worker.terminate() == 0


@pytest.mark.slow
def test_sync_ends_with_a_message_once_it_is_shut_out(synced: Synced, later: Path, processes: Processes) -> None:
    synced.run(DOCS)
    synced.pipeline()
    processes.env["DATABASE_URL"] = synced.database.url
    sync = processes.command("sync")
    sync.wait_for("syncing until")
    release(synced.database, later, f"{SHUTS_OUT}\nSELECT 1;")
    assert sync.wait() == 1
    assert "which shuts out this program" in sync.printed
    assert "pip install --upgrade" in sync.printed
    assert "Traceback" not in sync.printed
    assert len(migrations()) < len(list(later.glob("*.sql")))
