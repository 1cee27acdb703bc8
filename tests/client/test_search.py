"""`Sync.search` and `Sync.embed_query`: which rows are found, and what is returned of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from pgvector_sync import Hits, InputRejected, Misconfigured, OutOfTime, QueryVector, Refused, Sync
from pgvector_sync.model.search import Request
from pgvector_sync.observe.search import Searcher
from pgvector_sync.store import search as stored_search
from support.beginnings import begins_with, default_source
from support.client import sync_as
from support.endpoint import Calls, vector_of
from support.roles import WORKER
from support.steps import Interrupted
from support.synced import DIMENSIONS, DOCS, MODEL, Synced

OTHER = "text-embedding-3-large"


def ten_rows(synced: Synced) -> None:
    """Ten rows, each with its vector; `note` is their number modulo three."""
    default_source(synced)
    synced.filled("INSERT INTO docs SELECT n, 'text ' || n, n % 3 FROM generate_series(1, 10) n")


beginning, docs = begins_with(ten_rows)


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, WORKER) as sync:
        yield sync


def keys(hits: Hits) -> list[Any]:
    return [hit.key[0] for hit in hits]


def by_distance(docs: Synced, query: str) -> list[int]:
    """All keys, nearest first, computed without the database."""
    vectors, asked = docs.vectors(), np.array(vector_of(query, DIMENSIONS))
    return [key for (key,), _ in sorted(vectors.items(), key=lambda item: -float(item[1] @ asked))]


# -- what is found -------------------------------------------------------------------------------------------


def test_a_search_finds_the_nearest_rows(docs: Synced, sync: Sync) -> None:
    hits = sync.search("docs", "text 7", k=3)
    assert keys(hits) == by_distance(docs, "text 7")[:3]
    first = hits[0]
    assert (first.key, first.chunk_no, first.text, first.model, first.columns) == ((7,), 0, "text 7", MODEL, {})
    assert first.similarity == pytest.approx(1, abs=1e-5)
    assert (hits.model, hits.complete, len(hits), [*hits]) == (MODEL, True, 3, list(hits.hits))
    with pytest.raises(FrozenInstanceError):
        first.text = "another"  # type: ignore[misc]


def test_a_condition_selects_rows_and_takes_its_values_from_params(docs: Synced, sync: Sync) -> None:
    nearest = by_distance(docs, "text 7")
    some = sync.search("docs", "text 7", 10, where="note = %(rest)s", params={"rest": "1"})
    assert keys(some) == [key for key in nearest if key % 3 == 1]
    listed = sync.search("docs", "text 7", 10, where="id = ANY (%(ids)s) AND docs.id <> %(not)s", params={"ids": [1, 2, 3], "not": 2})  # fmt: skip
    assert sorted(keys(listed)) == [1, 3]
    assert keys(sync.search("docs", "text 7", 10, where="body LIKE '%t 7'")) == [7]
    assert keys(sync.search("docs", "text 7", 10, where="body LIKE '%%t' || %(n)s", params={"n": " 7"})) == [7]
    assert keys(sync.search("docs", "text 7", 10, where="true -- a comment")) == nearest
    others = "EXISTS (SELECT FROM public.docs AS other WHERE other.id = docs.id + 1)"
    assert sorted(keys(sync.search("docs", "text 7", 10, where=others))) == list(range(1, 10))


def test_the_condition_of_the_pipeline_applies_as_well(docs: Synced, sync: Sync) -> None:
    docs.pipeline(where="note <> '2'")
    docs.run("ALTER TABLE docs DISABLE TRIGGER USER", "UPDATE docs SET note = '2' WHERE id = 7", "DELETE FROM docs WHERE id = 6")  # fmt: skip
    left = [n for n in range(1, 11) if n % 3 != 2 and n not in (6, 7)]
    assert {(7,), (6,)} <= set(docs.vectors())
    assert sorted(keys(sync.search("docs", "text 7", 10))) == left
    # a condition that tries to leave our parentheses is refused, see test_search_refusals.py
    assert sorted(keys(sync.search("docs", "text 7", 10, where="true OR true"))) == left


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("vector_type", ["vector", pytest.param("halfvec", marks=pytest.mark.slow)])
def test_rows_below_the_least_similarity_are_left_out(synced: Synced, metric: str, vector_type: str) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n, n % 3 FROM generate_series(1, 10) n")
    synced.declare(metric=metric, vector_type=vector_type)
    synced.apply()
    synced.settle()
    with sync_as(synced.database, WORKER) as sync:
        every = sync.search("docs", "text 7", 10)
        assert [hit.similarity for hit in every] == sorted((hit.similarity for hit in every), reverse=True)
        assert keys(every)[0] == 7
        expected = {"cosine": 1.0, "l2": 1.0, "inner_product": 1.0}[metric]
        assert every[0].similarity == pytest.approx(expected, abs=2e-3)
        for place in (0, 3, 9):  # a hit's own similarity doesn't leave it out
            some = sync.search("docs", "text 7", 10, min_similarity=every[place].similarity)
            assert some.hits == every.hits[: place + 1]
            assert some.complete
        some = sync.search("docs", "text 7", 2, min_similarity=every[4].similarity)
        assert some.hits == every.hits[:2]


def test_columns_are_returned_as_python_values(synced: Synced) -> None:
    synced.run(
        'CREATE TABLE docs (id bigint PRIMARY KEY, body text, price numeric, at timestamptz, tags text[], extra jsonb, "a ""%" int)',
        "INSERT INTO docs VALUES (1, 'one', 1.50, '2026-01-31T12:00:00Z', '{a,b}', '{\"x\": [1]}', 3)",
    )
    synced.pipeline()
    with sync_as(synced.database, WORKER) as sync:
        [hit] = sync.search("docs", "one", columns=["price", "at", "tags", "extra", 'a "%', "id"])
        assert hit.text is None
        assert hit.columns == {
            "price": Decimal("1.50"), "at": datetime(2026, 1, 31, 12, tzinfo=UTC), "tags": ["a", "b"],
            "extra": {"x": [1]}, 'a "%': 3, "id": 1,
        }  # fmt: skip
        assert sync.search("docs", "one", columns=[])[0].columns == {}


def test_a_source_may_have_columns_with_the_names_of_ours(synced: Synced) -> None:
    synced.run(
        "CREATE TABLE docs (distance int, key text, model text, embedding text, similarity int, chunk text, fingerprint text, "
        "place int, PRIMARY KEY (distance, key))",
        "INSERT INTO docs VALUES (1, 'a', 'x', 'y', 5, 'z', 'f', 1), (1, 'b', 'q', 'r', 5, 's', 'f', 2)",
    )
    synced.pipeline(text=["model", "embedding", "chunk", "key"])
    with sync_as(synced.database, WORKER) as sync:
        [hit] = sync.search(
            "docs", "x\n\ny\n\nz\n\na", where="model = 'x' AND similarity = 5 AND place = 1 AND distance = 1"
        )
        assert (hit.key, hit.text) == ((1, "a"), "x\n\ny\n\nz\n\na")
        assert sync.search("docs", "x", columns=["model", "distance"])[0].columns.keys() == {"model", "distance"}
        first = sync.search("docs", "x", 1)
        second = sync.search("docs", "x", 1, after=first.next)
        assert {first[0].key, second[0].key} == {(1, "a"), (1, "b")}


# -- one space per answer (G16) ------------------------------------------------------------------------------


def test_vectors_of_another_model_are_never_compared(docs: Synced, sync: Sync) -> None:
    docs.run("UPDATE docs_embedding SET model = 'the old one' WHERE id <= 6")
    hits = sync.search("docs", "text 3", 10)
    assert sorted(keys(hits)) == [7, 8, 9, 10]
    assert {hit.model for hit in hits} == {MODEL}


def searching(docs: Synced, action: Any, **how: Any) -> tuple[Hits, list[str]]:
    """Searches, with `action` in the middle of the first call; returns the models of all calls too."""
    provider = docs.shape().pipeline.provider
    interrupted = Interrupted(docs.runtime.embedder(provider), action)
    docs.endpoint.calls = Calls()
    hits = Searcher.of(replace(docs.runtime, embedder=lambda _: interrupted)).search(
        "docs", "text 7", Request(**how)
    )
    return hits, [body["model"] for body in docs.endpoint.calls.bodies]


def test_a_query_is_embedded_again_if_the_model_changes_meanwhile(docs: Synced) -> None:
    def change() -> None:
        docs.pipeline(model=OTHER)
        docs.endpoint.calls = Calls()

    hits, models = searching(docs, change, k=10)
    assert models == [MODEL, OTHER]
    assert (hits.model, len(hits)) == (OTHER, 10)


def test_a_query_is_not_embedded_again_if_only_rows_are_selected_differently(docs: Synced) -> None:
    hits, models = searching(docs, lambda: docs.pipeline(where="id <> 7"), k=10)
    assert models.count(MODEL) == 1
    assert sorted(keys(hits)) == [1, 2, 3, 4, 5, 6, 8, 9, 10]


def test_a_change_in_the_searchs_own_snapshot_begins_the_search_again(
    docs: Synced, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, changes = stored_search.prepare, iter([OTHER])

    def change_then_prepare(*arguments: Any) -> Any:
        for model in changes:
            docs.pipeline(model=model)
        return prepare(*arguments)

    sync.embed_query("docs", "text 7")  # so that the first transaction searches

    monkeypatch.setattr(stored_search, "prepare", change_then_prepare)
    hits = sync.search("docs", "text 7", 10)
    assert (hits.model, len(hits)) == (OTHER, 10)


def test_a_pipeline_that_keeps_changing_ends_the_search(
    docs: Synced, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = stored_search.prepare

    def bump_then_prepare(*arguments: Any) -> Any:
        docs.run("UPDATE pgvector_sync.pipeline SET spec_version = spec_version + 1")
        return prepare(*arguments)

    monkeypatch.setattr(stored_search, "prepare", bump_then_prepare)
    with pytest.raises(Refused, match="docs was changed several times during the search"):
        sync.search("docs", "text 7")
    assert docs.endpoint.calls.requests == 1


def test_the_vector_of_another_model_is_refused(docs: Synced, sync: Sync) -> None:
    query = sync.embed_query("docs", "text 7")
    assert keys(sync.search("docs", query, 1)) == [7]
    docs.pipeline(model=OTHER)
    with pytest.raises(Refused, match=f"was embedded for vectors of {MODEL}, and docs has {OTHER}") as refused:
        sync.search("docs", query)
    assert "embed_query('docs', …)" in (refused.value.hint or "")
    with pytest.raises(Refused, match="expected a query of 8 dimensions, got 2"):
        sync.search("docs", replace(query, model=OTHER, vector=[1.0, 2.0]))
    for vector in ([0.0] * 8, [float("nan")] * 8, [float("inf")] * 8):
        with pytest.raises(Refused, match="is all zeros, or contains NaN or infinity"):
            sync.search("docs", replace(query, model=OTHER, vector=vector))


def test_a_number_that_a_halfvec_cant_have_is_refused(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one')")
    synced.declare(vector_type="halfvec")
    synced.apply()
    with sync_as(synced.database, WORKER) as sync:
        query = replace(sync.embed_query("docs", "one"), vector=[70_000.0] * 8)
        with pytest.raises(Refused, match="a number over 65,504, which a halfvec can't have"):
            sync.search("docs", query)


# -- embedding the query -------------------------------------------------------------------------------------


def test_a_query_is_embedded_as_the_pipeline_says(docs: Synced, sync: Sync) -> None:
    docs.pipeline(query={"model": OTHER, "prefix": "query: "})
    docs.endpoint.calls = Calls()
    query = sync.embed_query("docs", "text 7")
    assert query.vector == pytest.approx(vector_of("query: text 7", DIMENSIONS))
    assert [body["model"] for body in docs.endpoint.calls.bodies] == [OTHER]
    # the vectors to compare with are the documents', whatever embeds the queries
    assert (query.pipeline, query.model) == ("docs", MODEL)
    assert query.spec_version == docs.database.value("SELECT spec_version FROM pgvector_sync.pipeline")
    assert json.loads(str(query)) == query.vector


def test_a_query_is_paid_for_once_while_it_is_remembered(docs: Synced, sync: Sync) -> None:
    for k in (1, 2, 3):
        sync.search("docs", "text 7", k)
    sync.embed_query("docs", "text 7").vector.clear()  # the caller's own list
    assert len(sync.embed_query("docs", "text 7").vector) == DIMENSIONS
    assert docs.endpoint.calls.requests == 1
    docs.pipeline(query={"prefix": "query: "})
    docs.endpoint.calls = Calls()
    sync.search("docs", "text 7")
    assert docs.endpoint.calls.requests == 1


def test_a_failed_query_is_not_remembered(docs: Synced, sync: Sync) -> None:
    docs.endpoint.fail(status=401)
    with pytest.raises(Misconfigured):
        sync.search("docs", "text 7")
    docs.endpoint.heal()
    assert keys(sync.search("docs", "text 7", 1)) == [7]


def test_a_provider_that_hangs_ends_a_search_at_its_timeout(docs: Synced, sync: Sync) -> None:
    docs.endpoint.fail("hang")
    with pytest.raises(OutOfTime, match=r"did not answer within 0\.[45] s"):
        sync.search("docs", "text 7", timeout=timedelta(seconds=0.5))
    with pytest.raises(OutOfTime, match=r"did not answer within 0\.[45] s"):
        sync.embed_query("docs", "text 7", timeout=timedelta(seconds=0.5))


def test_a_query_that_is_too_long_says_so(docs: Synced, sync: Sync) -> None:
    with pytest.raises(InputRejected) as rejected:
        sync.embed_query("docs", "words " * 17_000)
    assert f"the query has 102,000 characters, probably more than {MODEL} accepts" in (rejected.value.hint or "")
    with pytest.raises(Refused, match="the query has 1,000,001 bytes, more than 1,000,000"):
        sync.embed_query("docs", "x" * 1_000_001)


# -- the asynchronous twins ----------------------------------------------------------------------------------


def test_the_asynchronous_twins_return_the_same_and_leave_the_loop_free(docs: Synced, sync: Sync) -> None:
    expected = sync.search("docs", "text 7", 3, where="id > %(least)s", params={"least": 2})
    docs.endpoint.latency = 0.3

    async def main() -> tuple[int, list[Any]]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        results = await asyncio.gather(
            sync.asearch("docs", "text 7", 3, where="id > %(least)s", params={"least": 2}),
            *(sync.asearch("docs", f"text {n}", 1) for n in range(1, 6)),
            sync.aembed_query("docs", "text 6"),
        )
        counting.cancel()
        return turns, list(results)

    turns, [first, *others, query] = asyncio.run(main())
    assert first == expected
    assert [keys(hits) for hits in others] == [[1], [2], [3], [4], [5]]
    assert isinstance(query, QueryVector)
    assert turns >= 5  # of the thirty that fit into one call


def test_errors_of_an_asynchronous_twin_are_raised_where_it_is_awaited(docs: Synced, sync: Sync) -> None:
    with pytest.raises(Refused, match="there is no pipeline nothing"):
        asyncio.run(sync.asearch("nothing", "text"))
