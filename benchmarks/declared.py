"""The pipeline `docs` that benchmarks measure, and the runtime of a worker for it in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from deployed import WORDS, insert

from pgvector_sync.runtime import Runtime
from pgvector_sync.runtime.bootstrap import Embedders, open_database
from pgvector_sync.settings import Settings
from pgvector_sync.store.migrations import migrate
from support.endpoint import ALLOWED_HOSTS, ENVIRONMENT, Endpoint
from support.servers import Database
from support.synced import DIMENSIONS, DOCS, Synced


@contextmanager
def pipeline(
    database: Database,
    endpoint: Endpoint,
    *,
    existing: int = 0,
    added: int = 0,
    words: int = WORDS,
    dimensions: int = DIMENSIONS,
    **settings: object,
) -> Iterator[Runtime]:
    """Declare the pipeline over `existing` rows, for a backfill, and `added` rows, which the triggers capture.

    endpoint: anything with a `base_url`; words: of a row's text, of five bytes each.
    """
    migrate(database.url)
    own = Settings(DATABASE_URL=database.url, _env_file=None, allowed_hosts=ALLOWED_HOSTS, **settings)
    with (
        pytest.MonkeyPatch.context() as environment,
        TemporaryDirectory() as folder,
        open_database(own, max_connections=32) as opened,
        closing(Embedders(own)) as embedders,
    ):
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        runtime = Runtime(own, opened, embedders)
        synced = Synced(database, endpoint, runtime, runtime, Path(folder) / "pgvector-sync.toml")
        synced.run(DOCS)
        insert(database, "docs", 1, existing, words=words)
        synced.run("ANALYZE docs")
        synced.declare(dimensions=dimensions)
        synced.apply()
        insert(database, "docs", 1, added, words=words)
        yield runtime
