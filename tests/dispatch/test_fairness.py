"""Pipelines share the slots of the workers: one whose provider hangs delays no other."""

from __future__ import annotations

import pytest

from support.cluster import Cluster
from support.endpoint import Endpoint
from support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_provider_that_hangs_takes_no_slot_that_another_pipeline_needs(cluster: Cluster, pool: str) -> None:
    cluster.synced.run("CREATE TABLE notes (id bigint PRIMARY KEY, body text)")
    cluster.synced.declare("notes", source="notes")
    cluster.synced.declare(batch_size=10)
    cluster.synced.apply()
    cluster.synced.settle()
    with Endpoint() as other:
        cluster.synced.run(
            "INSERT INTO pgvector_sync.provider (name, base_url, api_key_env) "
            f"VALUES ('other', '{other.base_url}', 'TEST_KEY')",
            "UPDATE pgvector_sync.pipeline SET provider = 'other' WHERE name = 'notes'",
        )
        cluster.synced.endpoint.fail("hang", seconds=60)
        worker = cluster.worker(pool, concurrency=2)
        worker.wait_for("relay_elected")
        cluster.insert(200)
        cluster.in_call()
        for number in range(1, 6):
            cluster.synced.run(f"INSERT INTO notes VALUES ({number}, 'note {number}')")
            eventually(lambda: len(cluster.synced.vectors("notes")) == number, 5)  # noqa: B023
        leases = "SELECT count(DISTINCT lease) FROM pgvector_sync.work WHERE lease IS NOT NULL"
        assert cluster.synced.database.value(leases) == 1
        cluster.synced.endpoint.heal()
        cluster.settles()
