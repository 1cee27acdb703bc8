from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.scene import SOURCE, Scene
from support.cluster import Cluster
from support.endpoint import ENVIRONMENT
from support.roles import OWNER, WORKER
from support.synced import TEXT_LIMIT, open_synced


@pytest.fixture
def scene(database, valkey, redis_url, processes, shared, monkeypatch, tmp_path) -> Iterator[Scene]:
    """The pipeline `articles` with its source and target, both empty, and no worker yet."""
    processes.env |= {
        "DATABASE_URL": database.url_as(WORKER),
        "REDIS_URL": redis_url,
        **ENVIRONMENT,
        "PGVECTOR_SYNC_TEXT_LIMIT_BYTES": str(TEXT_LIMIT),
    }
    with open_synced(database, shared, tmp_path, monkeypatch) as synced:
        synced.run(SOURCE)
        synced.pipeline("articles", source="articles", text=["title", "body"])
        urls = {"OWNER_DATABASE_URL": database.url_as(OWNER), "ADMIN_DATABASE_URL": database.url}
        yield Scene(Cluster(synced, valkey, processes), tmp_path, env=processes.env | urls)
        valkey.start()
        synced.endpoint.heal()
