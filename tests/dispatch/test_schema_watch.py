"""A worker without a beat notices changes of the schema."""

from __future__ import annotations

import pytest

from support.cluster import Cluster
from support.roles import OWNER
from support.waiting import eventually


@pytest.mark.slow
def test_a_worker_of_the_owners_role_installs_lost_triggers_and_finds_what_was_missed(cluster: Cluster):
    cluster.processes.env["DATABASE_URL"] = cluster.synced.database.url_as(OWNER)
    cluster.insert(10)
    cluster.worker()
    cluster.settles()
    cluster.synced.run(
        "ALTER TABLE docs ADD wide text; UPDATE docs SET wide = body; ALTER TABLE docs RENAME body TO narrow; "
        "ALTER TABLE docs RENAME wide TO body",
        "UPDATE docs SET body = 'missed' WHERE id = 1",
        "UPDATE pgvector_sync.tick SET visible_at = now() WHERE name = 'schema_watch'",  # the next look, at once
    )
    installed = """
        SELECT count(*) FROM pg_trigger t WHERE t.tgname = 'pgvector_sync_update'
        AND pg_get_triggerdef(t.oid) LIKE '%old.body)%'
    """
    eventually(lambda: cluster.synced.database.value(installed) == 1, 40, what="the trigger watches body")
    finished = "SELECT count(*) FROM pgvector_sync.run WHERE kind = 'reconcile' AND state = 'finished'"
    eventually(lambda: cluster.synced.database.value(finished) == 1, 40, what="all texts are compared")
    cluster.settles()


def test_a_worker_reports_what_it_cannot_repair_and_stops_buying(cluster: Cluster):
    cluster.insert(3)
    cluster.synced.run(
        "DROP TABLE docs_embedding",
        "UPDATE pgvector_sync.tick SET visible_at = now() WHERE name = 'schema_watch'",  # the next look, at once
    )
    worker = cluster.worker()
    worker.wait_for(r"schema_problem.*there is no table public.docs_embedding")
    assert cluster.calls() == 0
