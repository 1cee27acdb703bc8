"""A database is restored, re-created or rearranged under a running worker, which continues without a restart."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pgvector_sync.local.embedded.account import locate
from support.cluster import Cluster
from support.servers import PACKAGES, Database
from support.waiting import eventually

PROBE = hashlib.sha256(b"pgvector-sync asks whether this model answers.").hexdigest()


def tool(database: Database, name: str, *arguments: str | Path) -> None:
    """A program of the server's own version."""
    server = database.server
    programs = locate(PACKAGES[server.version], "pginstall/bin/initdb", server.account).parent
    subprocess.run([programs / name, *arguments], check=True, capture_output=True)


def most_paid(cluster: Cluster) -> int:
    """Return how often the most frequent text was bought since the calls were last reset."""
    counts = Counter(cluster.synced.endpoint.calls.bought)
    counts.pop(PROBE, None)
    return max(counts.values(), default=0)


def update(cluster: Cluster, word: str) -> None:
    cluster.synced.run(f"UPDATE docs SET body = '{word} ' || id")


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_dump_restored_into_the_same_database_under_a_running_worker(
    cluster: Cluster, tmp_path: Path, pool: str
) -> None:
    database = cluster.synced.database
    cluster.worker(pool)
    cluster.insert(50)
    cluster.settles()
    dump = tmp_path / "dump"
    tool(database, "pg_dump", "-Fc", "-f", dump, database.url)
    before = database.value("SELECT 'vector'::regtype::oid")
    tool(database, "pg_restore", "--clean", "--if-exists", "-d", database.url, dump)
    assert database.value("SELECT 'vector'::regtype::oid") != before
    cluster.synced.endpoint.calls.bought.clear()
    update(cluster, "restored")
    cluster.settles()
    assert most_paid(cluster) <= 2, "a batch that was on its way may be paid for twice"
    assert cluster.synced.dead() == []


@pytest.mark.slow
def test_the_extension_moved_to_another_schema_under_a_running_worker(cluster: Cluster) -> None:
    cluster.worker()
    cluster.insert(50)
    cluster.settles()
    cluster.synced.run("CREATE SCHEMA moved", "ALTER EXTENSION vector SET SCHEMA moved")
    cluster.synced.endpoint.calls.bought.clear()
    update(cluster, "moved")
    cluster.settles()
    assert most_paid(cluster) == 1
    assert cluster.synced.dead() == []


@pytest.mark.slow
def test_the_extension_moved_while_a_batch_is_at_the_provider(cluster: Cluster) -> None:
    cluster.worker(concurrency=1)
    cluster.insert(1)
    cluster.settles()
    endpoint = cluster.synced.endpoint
    calls, endpoint.latency = cluster.calls(), 1.5
    update(cluster, "on its way")
    cluster.in_call(more_than=calls)
    cluster.synced.run("CREATE SCHEMA moved", "ALTER EXTENSION vector SET SCHEMA moved")
    cluster.settles()
    assert most_paid(cluster) == 1, "the vectors are kept and written"


@pytest.mark.slow
def test_types_with_other_oids_while_a_batch_is_at_the_provider(cluster: Cluster) -> None:
    """This is what happens when a pooler is pointed at another server."""
    cluster.worker(concurrency=1)
    cluster.insert(1)
    cluster.settles()
    endpoint = cluster.synced.endpoint
    calls, endpoint.latency = cluster.calls(), 1.5
    update(cluster, "on its way")
    cluster.in_call(more_than=calls)
    cluster.synced.run(
        "BEGIN; ALTER TABLE docs_embedding ALTER embedding TYPE real[] USING embedding::real[]; "
        "DROP EXTENSION vector; CREATE EXTENSION vector; "
        "ALTER TABLE docs_embedding ALTER embedding TYPE vector(8) USING embedding::vector(8); COMMIT"
    )
    cluster.settles()
    assert most_paid(cluster) == 1, "the vectors are kept and written"


@pytest.mark.slow
def test_a_pipeline_that_a_restore_has_put_back_is_processed_as_before(cluster: Cluster, tmp_path: Path) -> None:
    """Spec version and configuration go back together; what a batch had claimed meanwhile is fenced off."""
    database, synced = cluster.synced.database, cluster.synced
    cluster.insert(10)
    synced.settle()
    dump = tmp_path / "dump"
    tool(database, "pg_dump", "-Fc", "-f", dump, database.url)
    synced.declare(text={"sql": "'later: ' || body"})
    synced.apply()
    cluster.worker(concurrency=1)
    endpoint = synced.endpoint
    endpoint.latency = 1.0
    cluster.in_call(more_than=cluster.calls())
    tool(database, "pg_restore", "--clean", "--if-exists", "-d", database.url, dump)
    endpoint.latency = 0.0
    eventually(lambda: synced.shape().pipeline.spec_version == 1, what="the old configuration is back")
    update(cluster, "after")
    cluster.settles()
