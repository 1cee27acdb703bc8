"""Searches with a vector index: conditions lose no rows, and pages no row and no order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from pgvector_sync import Hits, QueryVector
from pgvector_sync.store.search import Wanted, prepare
from support.beginnings import begins_with
from support.client import sync_as
from support.roles import WORKER
from support.synced import DIMENSIONS, DOCS, MODEL, Synced

ROWS = 3_000
VECTORS = np.repeat(np.random.default_rng(7).normal(size=(ROWS // 10, DIMENSIONS)), 10, axis=0)
"""Random, in groups of ten equal ones."""
QUERY = VECTORS[0].tolist()
"""Equal to stored vectors: IVFFlat divides by chance, but these are always in the list that it reads first."""
RARE = "mod(id, 600) = 7"
"""True for five rows."""
INDEX_FIRST = ("enable_sort = off", "enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off")
"""Makes the planner prefer the vector index to conditions, as it does in a large table."""


def groups(synced: Synced) -> None:
    """3,000 rows with random vectors, in groups of ten equal ones."""
    synced.run(DOCS)
    synced.pipeline()
    with synced.database.connect() as connection:
        connection.execute("ALTER TABLE docs DISABLE TRIGGER USER")
        connection.execute(f"INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, {ROWS}) n")
        with connection.cursor().copy(
            "COPY docs_embedding (id, chunk_no, embedding, fingerprint, model, embedded_at) FROM STDIN"
        ) as copy:
            for number, vector in enumerate(VECTORS, start=1):
                copy.write_row((number, 0, str(vector.tolist()), b"\0" * 32, MODEL, "now"))
        connection.execute("VACUUM ANALYZE docs, docs_embedding")


beginning, begun = begins_with(groups)


@pytest.fixture(params=["hnsw", pytest.param("ivfflat", marks=pytest.mark.slow)])
def docs(begun: Synced, request: pytest.FixtureRequest) -> Synced:
    """An index that gives up after 100 tuples."""
    with begun.database.connect() as connection:
        connection.execute(f"CREATE INDEX ON docs_embedding USING {request.param} (embedding vector_cosine_ops)")
        connection.execute("ANALYZE docs_embedding")
        connection.execute("LOAD 'vector'")
        for setting in ("hnsw.max_scan_tuples = 100", "ivfflat.max_probes = 2", *INDEX_FIRST):
            connection.execute(f"ALTER DATABASE {begun.database.name} SET {setting}")
    return begun


@pytest.fixture
def search(docs: Synced) -> Iterator[Callable[..., Hits]]:
    query = QueryVector("docs", MODEL, 1, QUERY)
    with sync_as(docs.database, WORKER) as sync:
        yield lambda k, **how: sync.search("docs", query, k, **how)


@pytest.fixture
def plan(docs: Synced) -> Iterator[Callable[..., str]]:
    query = QueryVector("docs", MODEL, 1, QUERY)
    with sync_as(docs.database, WORKER) as sync:
        yield lambda k, **how: "\n".join(sync.explain_search("docs", query, k, **how))


def nearest(docs: Synced, condition: str = "true") -> list[int]:
    """All keys that meet a condition in the order of search, without an index."""
    with docs.database.connect() as connection:
        rows = connection.execute(
            f"SELECT id FROM docs_embedding WHERE {condition} ORDER BY (embedding <=> '{QUERY}') + 0, id"
        ).fetchall()
    return [key for (key,) in rows]


def keys(hits: Hits) -> list[Any]:
    return [hit.key[0] for hit in hits]


def test_a_search_uses_the_index_and_finds_most_of_the_nearest_rows(
    docs: Synced, search: Callable[..., Hits], plan: Callable[..., str]
) -> None:
    assert "docs_embedding_embedding_idx" in plan(10)
    assert "'[…]'" in plan(10) or len(str(QUERY)) < 80
    hits = search(10)
    assert len(hits) == 10
    assert len(set(keys(hits)) & set(nearest(docs)[:10])) >= 5
    assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)


def test_a_condition_that_few_rows_meet_loses_none_of_them(
    docs: Synced, search: Callable[..., Hits], plan: Callable[..., str]
) -> None:
    assert "docs_embedding_embedding_idx" in plan(5, where=RARE)
    hits = search(5, where=RARE)
    assert keys(hits) == nearest(docs, RARE)
    assert hits.complete
    more = search(50, where=RARE)
    assert keys(more) == keys(hits)
    assert (more.complete, more.next) == (True, None)


def test_more_rows_than_an_index_returns_at_once_are_found(search: Callable[..., Hits]) -> None:
    for k in (100, 1_000):
        hits = search(k)
        assert len(hits) == k
        assert len(set(keys(hits))) == k


def test_rows_of_a_new_model_are_found_among_many_of_the_old_one(
    docs: Synced, search: Callable[..., Hits]
) -> None:
    docs.run(f"UPDATE docs_embedding SET model = 'old' WHERE NOT {RARE}")
    hits = search(10)
    assert (keys(hits), hits.complete) == (nearest(docs, RARE), True)


def test_a_search_without_time_to_compare_every_vector_says_that_rows_may_be_missing(
    docs: Synced, search: Callable[..., Hits]
) -> None:
    """Only the rows that the index doesn't reach are slow."""
    slow = f"CASE WHEN id = ANY (%(far)s) THEN pg_sleep(60)::text = '' ELSE {RARE} END"
    hits = search(5, where=slow, params={"far": nearest(docs)[-100:]}, timeout=timedelta(seconds=1))
    assert hits.complete is False
    assert set(keys(hits)) <= set(nearest(docs, RARE))


@pytest.mark.parametrize("index", ["used", "not used"])
def test_pages_contain_each_row_once_and_in_order(docs: Synced, search: Callable[..., Hits], index: str) -> None:
    if index == "not used":
        docs.run("DROP INDEX docs_embedding_embedding_idx")
    # ten rows each are at the same distance: more than fit on a page of three
    for k, condition in ((35, "id <= 300"), (3, "id <= 20")):
        pages = [search(k, where=condition)]
        while pages[-1].next is not None:
            pages.append(search(k, where=condition, after=pages[-1].next))
        found = [key for page in pages for key in keys(page)]
        places = [(hit.distance, hit.key) for page in pages for hit in page]
        assert places == sorted(places)
        assert len(found) == len(set(found))
        assert pages[-1].complete
        expected = nearest(docs, condition)
        assert found == expected or (index == "used" and len(found) >= 0.9 * len(expected))


@pytest.mark.parametrize(
    ("version", "scan"), [("0.7.4", "off"), ("0.8.0", "relaxed_order"), ("0.10.0", "relaxed_order"), ("1.0", "relaxed_order")]
)  # fmt: skip
def test_scans_are_iterative_since_pgvector_0_8(synced: Synced, version: str, scan: str) -> None:
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    synced.run(f"UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'vector'")
    with synced.runtime.database.transaction() as connection:
        prepare(connection, synced.shape().pipeline, Wanted(limit=1))
        seen = connection.execute("SELECT coalesce(current_setting('hnsw.iterative_scan', true), 'off') AS scan")
        assert seen.fetchone() == {"scan": scan}
