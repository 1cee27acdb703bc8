"""A target that refuses every write: a real worker stops after one batch and continues once writes are accepted."""

from __future__ import annotations

import pytest

from support.cluster import Cluster
from support.waiting import eventually, never

ROWS = 300
QUICK = {"PGVECTOR_SYNC_BACKOFF_FIRST": "0.1", "PGVECTOR_SYNC_BACKOFF_LONGEST": "0.5"}


@pytest.mark.slow
def test_a_required_column_without_a_default_costs_one_batch_and_no_row(cluster: Cluster) -> None:
    synced = cluster.synced
    worker = cluster.worker(concurrency=1, **QUICK)
    synced.run(
        "ALTER TABLE docs_embedding ADD tenant_id int NOT NULL DEFAULT 1",
        "ALTER TABLE docs_embedding ALTER tenant_id DROP DEFAULT",
    )
    cluster.insert(ROWS)
    query = "SELECT state, reason FROM pgvector_sync.pipeline"
    eventually(lambda: synced.database.execute(query)[0][0] == "misconfigured", 20)
    assert "(23502): column tenant_id is NOT NULL without a default" in synced.database.execute(query)[0][1]
    # batches that were on their way may have been bought as well, each row once
    assert synced.paid() <= ROWS
    paid = synced.paid()
    never(lambda: synced.paid() > paid, 2.0, what="a probe has bought something")
    assert synced.dead() == []
    synced.run("ALTER TABLE docs_embedding DROP tenant_id")
    cluster.settles()
    assert synced.paid() <= paid + ROWS + 10
    assert synced.database.execute(query)[0] == ("active", None)
    assert "Traceback" not in worker.printed
