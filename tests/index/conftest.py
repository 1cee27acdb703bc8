"""A pipeline whose target has vectors, of which an index is built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgvector_sync.database import Database
from support.beginnings import begins_with
from support.index_builds import ROWS, fill
from support.synced import DOCS, Synced, runtime_of


def many_vectors(synced: Synced) -> None:
    """A pipeline whose target has vectors."""
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    synced.sync()
    fill(synced, ROWS)


beginning, docs = begins_with(many_vectors)


@pytest.fixture
def server(docs: Synced) -> Iterator[Database]:
    """Connects as the server's own role, which sees the progress of sessions that have taken another role."""
    with runtime_of(docs.database.url, docs.runtime.embedder) as runtime:
        yield runtime.database
