"""A bulk load, a backfill or another pipeline's backlog must not hold up a single change."""

from collections.abc import Callable

import pytest

from pgvector_sync.batch.claim import claim
from pgvector_sync.engine.shares import fair_share, others_of
from pgvector_sync.model import Lane
from pgvector_sync.store.work import Due
from support.steps import Steps
from support.synced import Synced


def lanes(docs: Synced) -> dict[str, int]:
    return dict(docs.database.execute("SELECT lane, count(*) FROM pgvector_sync.work GROUP BY lane"))


def test_a_load_in_one_transaction_waits_in_the_bulk_lane_and_single_changes_dont(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT n, 'load ' || n FROM generate_series(10001, 12000) n")
    for key in range(1, 4):
        docs.synced.run(f"INSERT INTO docs VALUES (2000{key}, 'single {key}')")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 2000, "live": 3}


def test_a_single_change_of_a_loaded_row_promotes_it_and_a_load_never_demotes(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT n, 'load ' || n FROM generate_series(10001, 11000) n")
    docs.drain()
    docs.synced.run("UPDATE docs SET body = 'live now' WHERE id = 10001")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 999, "live": 1}
    docs.synced.run("UPDATE docs SET body = body || ' again' WHERE id >= 10001")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 999, "live": 1}


def test_many_small_transactions_are_no_load(docs: Steps) -> None:
    with docs.synced.database.connect() as connection:
        for key in range(10001, 10701):
            connection.execute("INSERT INTO docs VALUES (%s, 'one of many')", (key,))
    docs.drain()
    assert lanes(docs.synced) == {"live": 700}


@pytest.mark.parametrize(
    ("slots", "others", "share"),
    [(0, 3, 8), (1, 0, 8), (1, 5, 1), (2, 0, 8), (2, 1, 1), (8, 1, 7), (8, 9, 4), (100, 1, 8)],
)
def test_a_slot_is_kept_free_for_each_other_pipeline_up_to_half_of_them(
    slots: int, others: int, share: int
) -> None:
    assert fair_share(slots, others, limit=8) == share


def due(pipeline: str, *, provider: str = "openai", model: str = "small", lane: Lane = Lane.BULK) -> Due:
    return Due(
        pipeline=pipeline,
        lane=lane,
        state="active",
        batch_size=None,
        rows=1_000,
        in_flight=0,
        provider=provider,
        model=model,
        dialect="openai-compatible",
        parallel=None,
    )


def test_pipelines_that_wait_for_the_same_model_of_a_provider_keep_nothing_free_for_each_other() -> None:
    articles, notes = due("articles"), due("notes")
    assert others_of(articles, [articles, due("articles", lane=Lane.LIVE), notes]) == 0


def test_a_slot_is_kept_for_pipelines_of_another_provider_and_of_another_model() -> None:
    articles = due("articles")
    lanes = [articles, due("notes", provider="tei"), due("titles", model="large"), due("tags", provider="tei")]
    assert others_of(articles, lanes) == 3


def test_a_pipeline_takes_no_more_batches_than_its_share_and_goes_on_when_one_has_ended(
    docs: Steps, worker: Callable[..., Steps]
) -> None:
    docs.synced.declare(batch_size=1)
    docs.synced.apply()
    docs.insert(_1="one", _2="two", _3="three")
    first = docs.claim()
    other = worker().runtime
    assert claim(other, "docs", Lane.LIVE, share=1) is None
    assert claim(other, "docs", Lane.LIVE, share=2) is not None
    assert claim(other, "docs", Lane.LIVE, share=2) is None
    docs.write(first, docs.embed(first))
    assert claim(other, "docs", Lane.LIVE, share=2) is not None


def test_a_lease_that_ran_out_doesnt_count_as_in_flight(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.insert(_1="one")
    docs.claim()
    docs.expire_leases()
    assert claim(worker().runtime, "docs", Lane.LIVE, share=1) is not None


def test_a_bulk_claim_takes_live_rows_first(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT n, 'load ' || n FROM generate_series(10001, 10600) n")
    docs.insert(_1="live")
    docs.drain()
    urgent = docs.try_claim(Lane.BULK)
    assert urgent is not None
    assert (urgent.lane, set(urgent.rows)) == (Lane.LIVE, {(1,)})
    rest = docs.try_claim(Lane.BULK)
    assert rest is not None
    assert (rest.lane, len(rest.rows)) == (Lane.BULK, 512)
