"""Builds of vector indexes: whole or not at all, whatever ends our process, and without holding up writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.index.building import advance
from pgvector_sync.index.requests import request_build
from pgvector_sync.store import index_build
from pgvector_sync.store.index_build import Build
from support.synced import DIMENSIONS, DOCS, Synced

Command = Callable[..., tuple[int, str, str]]
ROWS = 300
INDEXES = (
    "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam "
    "WHERE x.indrelid = 'docs_embedding'::regclass AND a.amname IN ('hnsw', 'ivfflat') ORDER BY 1"
)


@pytest.fixture
def docs(synced: Synced) -> Synced:
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    synced.sync()
    fill(synced, ROWS)
    return synced


def fill(docs: Synced, rows: int) -> None:
    docs.run(
        "INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT n, ARRAY(SELECT random() - 0.5 + n * 0 FROM generate_series(1, {DIMENSIONS}))::vector, "
        f"sha256(n::text::bytea), 'm', now() FROM generate_series(1, {rows}) n",
        "ANALYZE docs_embedding",
    )


def indexes(docs: Synced) -> list[tuple[str, bool]]:
    return docs.database.execute(INDEXES)


def found(docs: Synced, build: int) -> Build:
    with docs.owner.database.transaction(read_only=True) as connection:
        result = index_build.find(connection, build)
    assert result is not None
    return result


def carried_out(docs: Synced, build: int) -> Build:
    """Carries out what is left of a build."""
    assert advance(docs.owner.database, found(docs, build))
    return found(docs, build)


def test_an_index_is_built_and_described(docs: Synced) -> None:
    request = request_build(docs.owner.database, "docs")
    build = carried_out(docs, request.build)
    assert (build.state, build.index_name, build.rows) == ("done", "docs_embedding_hnsw", ROWS)
    assert build.parameters == ("m=16", "ef_construction=64")
    assert (build.bytes or 0) > 0
    assert build.pgvector
    assert build.changes == 0
    assert indexes(docs) == [("docs_embedding_hnsw", True)]
