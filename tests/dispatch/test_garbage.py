"""The garbage collector spares what a process of ours has loaded, and is left alone in an application's process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OURS = "from pgvector_sync.celery_app import app"
APPLICATIONS = """
from celery import Celery
import pgvector_sync
app = Celery(broker="memory://")
pgvector_sync.register(app)
"""
LOOK = """
import gc
app.Worker(pool="{pool}", concurrency=2)
print(gc.get_freeze_count() > 100_000)
"""


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("app", "spared"), [(OURS, True), (APPLICATIONS, False)], ids=["ours", "an application's"]
)
def test_only_a_worker_of_ours_spares_what_is_loaded_before_it_forks(app: str, spared: bool, pool: str) -> None:
    # In a process of its own, since a worker changes its process when it is created.
    code = app + LOOK.format(pool=pool)
    environment = os.environ | {"DATABASE_URL": "postgresql://127.0.0.1/none", "REDIS_URL": "redis://127.0.0.1/0"}
    ended = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, timeout=60
    )
    assert ended.stdout == f"{spared}\n"
