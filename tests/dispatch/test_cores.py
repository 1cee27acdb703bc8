"""The cores of a machine are divided among the processes or threads of a worker that compute with a local model."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own, since a worker changes its process when it is created.
CODE = """
import os
os.sched_getaffinity = lambda pid: range(12)
from pgvector_sync.celery_app import app
from pgvector_sync.embedding.dialects import built_in_providers, dialect_of
from pgvector_sync.runtime.bootstrap import process_runtime
from pgvector_sync.settings import Settings

local = built_in_providers()["local"]
def threads(**values):
    return dialect_of(local).connect(local, Settings(_env_file=None, **values), {})._threads

print("command", threads(), threads(local_threads=7))
for options in (
    {"pool": "prefork", "concurrency": 4}, {"pool": "threads", "concurrency": 5}, {"pool": "prefork", "concurrency": 50},
    {"pool": "prefork", "autoscale": "6,2"},
):
    app.Worker(**options)
    print(*options.values(), threads(), threads(local_threads=7))
print("connections", process_runtime().database._pool.max_size)
"""
THREADS = """\
command 12 7
prefork 4 3 7
threads 5 2 7
prefork 50 1 7
prefork 6,2 2 7
connections 8
"""


@pytest.mark.slow
def test_a_worker_divides_the_cores_and_has_a_connection_for_each_of_its_batches() -> None:
    environment = os.environ | {"DATABASE_URL": "postgresql://127.0.0.1/none", "REDIS_URL": "redis://127.0.0.1/0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == THREADS
