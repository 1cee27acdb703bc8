"""Searches through indexes over `halfvec` and over bits: candidates come from the index, their order from the full vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync import Hits, QueryVector, Sync
from pgvector_sync.model import IndexPlan, Method, Storage
from pgvector_sync.runtime.bootstrap import Embedders
from pgvector_sync.store.index_ddl import create
from pgvector_sync.store.migrations import migrate
from support import synced as with_endpoint
from support.beginnings import begins_with
from support.client import sync_as
from support.endpoint import Endpoint
from support.real_vectors import DIMENSIONS, real_vectors, store
from support.roles import GRANTS_OF_SOURCES, OWNER, WORKER, set_up_roles
from support.servers import Database
from support.synced import MODEL, Synced

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")

ROWS, QUERIES = 1_000, 10
INDEX_FIRST = ("enable_sort = off", "enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off")
"""Makes the planner prefer the vector index to conditions, as it does in a large table."""
PROBES = "ivfflat.probes = 10"
"""All lists."""
HALVES = f"(embedding::halfvec({DIMENSIONS}))"
BITS = f"(binary_quantize(embedding)::bit({DIMENSIONS}))"
CLASSES = {"halfvec": f"({HALVES} halfvec_cosine_ops)", "bit": f"({BITS} bit_hamming_ops)"}
KINDS = {
    "halfvec": f"hnsw {CLASSES['halfvec']}",
    "bit": f"hnsw {CLASSES['bit']}",
    "ivfflat of bit": f"ivfflat {CLASSES['bit']} WITH (lists = 10)",
}


@dataclass
class Searched:
    """1,000 sentences and their vectors, and searches for ten others."""

    synced: Synced
    sync: Sync
    queries: list[QueryVector]

    def index(self, definition: str, name: str = "near") -> None:
        self.synced.run(f"CREATE INDEX {name} ON docs_embedding USING {definition}")

    def scanned(self, **how: Any) -> str | None:
        """The vector index that a search scans."""
        plan = "\n".join(self.sync.explain_search("docs", self.queries[0], 5, **how))
        names = re.findall(r"Index Scan using (\w+) on docs_embedding[^\n]*\n\s+Order By", plan)
        return names[0] if names else None

    def nearest(self, query: QueryVector, condition: str = "true", operator: str = "<=>") -> list[int]:
        """All keys that meet a condition in the order of search, without an index."""
        with self.synced.database.connect() as connection:
            rows = connection.execute(
                f"SELECT id FROM docs_embedding WHERE {condition} ORDER BY (embedding {operator} '{query}') + 0, id"
            ).fetchall()
        return [key for (key,) in rows]

    def recall(self, k: int = 10, operator: str = "<=>") -> float:
        """The mean share of the nearest rows that searches find."""
        shares = [
            len(set(keys(self.sync.search("docs", query, k))) & set(self.nearest(query, operator=operator)[:k]))
            / k
            for query in self.queries
        ]
        return sum(shares) / len(shares)


def sentences(synced: Synced) -> None:
    """1,000 sentences of our docs; ten others are the queries."""
    store(synced, real_vectors(ROWS + QUERIES)[:ROWS])


beginning, begun = begins_with(sentences)


@pytest.fixture
def searched(begun: Synced) -> Iterator[Searched]:
    with begun.database.connect() as connection:
        connection.execute("LOAD 'vector'")
        for setting in (*INDEX_FIRST, PROBES):
            connection.execute(f"ALTER DATABASE {begun.database.name} SET {setting}")
    queries = [QueryVector("docs", MODEL, 1, vector.tolist()) for vector in real_vectors(ROWS + QUERIES)[ROWS:]]
    with sync_as(begun.database, WORKER) as sync:
        yield Searched(begun, sync, queries)


def keys(hits: Hits) -> list[Any]:
    return [hit.key[0] for hit in hits]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "ivfflat" in kind else []) for kind in KINDS]
)
def test_candidates_come_from_the_index_and_their_order_from_the_full_vectors(
    searched: Searched, kind: str
) -> None:
    searched.index(KINDS[kind])
    assert searched.scanned() == "near"
    query = searched.queries[0]
    hits = searched.sync.search("docs", query, 10)
    assert hits.complete
    expected = {key: 1 - place for place, key in enumerate(searched.nearest(query))}
    assert keys(hits) == sorted(keys(hits), key=lambda key: -expected[key])
    with searched.synced.database.connect() as connection:
        [(distance,)] = connection.execute(
            f"SELECT embedding <=> '{query}' FROM docs_embedding WHERE id = {hits[0].key[0]}"
        ).fetchall()
    assert hits[0].distance == distance, "the distance of the full vectors"
    assert searched.recall() >= 0.9


def test_reranking_finds_what_the_bits_alone_miss(searched: Searched) -> None:
    searched.index(KINDS["bit"])
    with searched.synced.database.connect() as connection:
        alone = 0.0
        for query in searched.queries:
            rows = connection.execute(
                f"SELECT id FROM docs_embedding ORDER BY {BITS} <~> binary_quantize('{query}'::vector)::bit({DIMENSIONS}) LIMIT 10"
            ).fetchall()
            alone += len({key for (key,) in rows} & set(searched.nearest(query)[:10])) / 10 / QUERIES
    assert alone < 0.7
    assert searched.recall() >= 0.9


def test_a_larger_ef_search_reranks_more_candidates(searched: Searched) -> None:
    searched.index(KINDS["bit"])
    name = searched.synced.database.name
    for setting, least, most in (("RESET hnsw.ef_search", 50, 100), ("SET hnsw.ef_search = 500", 500, 600)):
        searched.synced.run(f"ALTER DATABASE {name} {setting}")
        with sync_as(searched.synced.database, WORKER) as sync:
            plan = "\n".join(sync.explain_search("docs", searched.queries[0], 5))
            read = max(int(rows) for rows in re.findall(r"Limit .*actual time=\S+ rows=(\d+)", plan))
            assert least <= read <= most


def test_rows_are_compared_exactly_where_the_condition_comes_first(searched: Searched) -> None:
    """The order of bits is worth its mistakes only if an index has it."""
    searched.index(KINDS["bit"])
    searched.synced.run(
        f"ALTER DATABASE {searched.synced.database.name} RESET enable_sort",
        f"ALTER DATABASE {searched.synced.database.name} RESET enable_hashjoin",
    )
    few = "docs.id <= 100"
    with sync_as(searched.synced.database, WORKER) as sync:
        plan = "\n".join(sync.explain_search("docs", searched.queries[0], 3, where=few))
        assert "<=>" in plan
        assert "<~>" not in plan
        for query in searched.queries:
            assert keys(sync.search("docs", query, 3, where=few)) == searched.nearest(query, "id <= 100")[:3]


@pytest.mark.parametrize("kind", ["halfvec", "bit"])
def test_conditions_lose_no_row_and_pages_repeat_none(searched: Searched, kind: str) -> None:
    searched.synced.run(f"ALTER DATABASE {searched.synced.database.name} SET hnsw.max_scan_tuples = 100")
    searched.index(KINDS[kind])
    query = searched.queries[0]
    with sync_as(searched.synced.database, WORKER) as sync:
        rare = "docs.id %% 200 = 7"
        hits = sync.search("docs", query, 10, where=rare, params={})
        assert (keys(hits), hits.complete) == (searched.nearest(query, "id % 200 = 7"), True)
        page = sync.search("docs", query, 50, min_similarity=0.05)
        hits = [*page]
        for _ in range(3):
            page = sync.search("docs", query, 50, after=page.next, min_similarity=0.05)
            hits += page
        places = [(hit.distance, hit.key) for hit in hits]
        assert len(hits) == 200
        assert places == sorted(set(places))
        assert min(hit.similarity for hit in hits) >= 0.05
        assert len({hit.key[0] for hit in hits} & set(searched.nearest(query)[:200])) >= 160


@pytest.mark.parametrize("metric", ["l2", pytest.param("inner_product", marks=pytest.mark.slow)])
def test_other_metrics_use_their_own_index(searched: Searched, metric: str) -> None:
    searched.synced.declare(dimensions=DIMENSIONS, metric=metric)
    searched.synced.apply()
    operator, family = {"l2": ("<->", "l2"), "inner_product": ("<#>", "ip")}[metric]
    searched.index(KINDS["halfvec"], "other")
    assert searched.scanned() is None
    searched.index(f"hnsw ({HALVES} halfvec_{family}_ops)")
    assert searched.scanned() == "near"
    assert searched.recall(operator=operator) >= 0.9


def test_a_column_of_halfvec_has_bits_too(synced: Synced, searched: Searched) -> None:
    synced.run(
        "UPDATE pgvector_sync.pipeline SET vector_type = 'halfvec'",
        f"ALTER TABLE docs_embedding ALTER embedding TYPE halfvec({DIMENSIONS})",
    )
    searched.index(KINDS["bit"])
    assert searched.scanned() == "near"
    assert searched.recall() >= 0.9


def test_unsuitable_indexes_change_nothing(searched: Searched) -> None:
    for number, definition in enumerate((
        f"{KINDS['bit']} WHERE id > 5",
        f"hnsw ({HALVES} halfvec_l2_ops)",
        f"hnsw ((l2_normalize(embedding)::halfvec({DIMENSIONS})) halfvec_cosine_ops)",
        f"hnsw ((binary_quantize(embedding + embedding)::bit({DIMENSIONS})) bit_hamming_ops)",
        f"hnsw ({BITS} bit_jaccard_ops)",
        KINDS["bit"],
    )):  # fmt: skip
        searched.index(definition, f"unsuitable_{number}")
    searched.synced.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'unsuitable_5'::regclass")
    assert searched.scanned() is None
    assert searched.recall() == 1.0


def test_the_declared_index_is_preferred_and_otherwise_the_most_precise_one(searched: Searched) -> None:
    shape = searched.synced.shape()
    for storage, name in ((Storage.BIT, "bits"), (Storage.HALFVEC, "halves"), (None, "whole")):
        with searched.synced.database.connect() as connection:
            connection.execute(create(shape, IndexPlan(method=Method.HNSW, storage=storage), name))
        assert searched.scanned() == name, "the index as `index build` creates it"
    searched.synced.declare(dimensions=DIMENSIONS, index={"storage": "bit"})
    searched.synced.apply()
    assert searched.scanned() == "bits"


def test_a_query_beyond_the_range_of_halfvec_is_compared_with_every_vector(searched: Searched) -> None:
    searched.index(KINDS["halfvec"])
    large = QueryVector("docs", MODEL, 1, [10_000_000.0 * x for x in searched.queries[0].vector])
    assert keys(searched.sync.search("docs", large, 5)) == searched.nearest(searched.queries[0])[:5]


@pytest.mark.parametrize("storage", [pytest.param("halfvec", marks=pytest.mark.slow), "bit"])
def test_names_may_need_quotes_and_pgvector_any_schema(
    bare_database: Database,
    shared: tuple[Endpoint, Embedders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: str,
) -> None:
    bare_database.execute('CREATE SCHEMA "Ext %"')
    bare_database.execute('CREATE EXTENSION vector WITH SCHEMA "Ext %"')
    set_up_roles(bare_database)
    migrate(bare_database.url_as(OWNER))
    set_up_roles(bare_database)
    bare_database.execute(GRANTS_OF_SOURCES)
    bare_database.execute('GRANT USAGE ON SCHEMA "Ext %" TO PUBLIC')
    with with_endpoint.open_synced(bare_database, shared, tmp_path, monkeypatch) as synced:
        synced.run(
            'CREATE TABLE "We ""ird %" (id int PRIMARY KEY, body text)',
            """INSERT INTO "We ""ird %" SELECT n, 'text ' || n FROM generate_series(1, 30) n""",
        )
        synced.declare(source='"We ""ird %"', index={"storage": storage})
        synced.apply()
        synced.settle()
        expression = {
            "halfvec": '(embedding::"Ext %".halfvec(8)) "Ext %".halfvec_cosine_ops',
            "bit": '("Ext %".binary_quantize(embedding)::bit(8)) "Ext %".bit_hamming_ops',
        }[storage]
        synced.run(
            f'CREATE INDEX "my ""near"" %" ON "We ""ird %_embedding" USING "hnsw" ({expression})',
            *(f"ALTER DATABASE {bare_database.name} SET {setting}" for setting in INDEX_FIRST),
        )
        with sync_as(bare_database, WORKER) as sync:
            plan = "\n".join(sync.explain_search("docs", "text 7", 3))
            assert 'Index Scan using "my ""near"" %"' in plan
            assert keys(sync.search("docs", "text 7", 1)) == [7]
