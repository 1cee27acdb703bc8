"""Workers that die: their rows are claimed again in smaller and smaller groups, and only the row that kills workers is parked."""

from __future__ import annotations

from collections.abc import Callable

from pgvector_sync.batch.read import read
from pgvector_sync.model import Lane
from support.steps import Steps


def test_an_expired_lease_is_claimed_again_and_the_row_finished(docs: Steps, worker: Callable[..., Steps]) -> None:
    docs.insert(_1="text")
    docs.claim()
    assert worker().try_claim() is None
    docs.expire_leases()
    outcome = worker().process()
    assert outcome is not None
    assert outcome.stored == 1
    docs.synced.sync()


def test_rows_of_a_dead_worker_are_claimed_in_shrinking_groups_and_the_killer_parked_alone(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 256) AS i")
    sizes = []
    held = docs.claim()
    sizes.append(len(held.rows))
    while True:
        read(docs.runtime, held)  # from the second attempt on it notes the content that it is about to try
        docs.expire_leases()
        again = docs.try_claim()
        if again is None or max(row.attempts for row in again.rows.values()) < len(sizes) + 1:
            break
        held = again
        sizes.append(len(held.rows))
    assert sizes == [256, 64, 16, 4, 1]
    assert docs.synced.dead() == [([held.rows.popitem()[0][0]], "worker_crashed")]
    assert docs.synced.database.value("SELECT count(*) FROM pgvector_sync.work") == 256
    assert docs.synced.endpoint.calls.requests == 0


def test_the_rows_beside_the_killer_are_all_embedded(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 40) AS i")
    docs.drain()
    killer = (23,)
    for _ in range(60):
        batch = docs.try_claim()
        if batch is None:
            break
        if killer in batch.rows:
            read(docs.runtime, batch)
            docs.expire_leases()  # the worker has died
        else:
            docs.write(batch, docs.embed(batch))
    assert docs.synced.dead() == [([23], "worker_crashed")]
    assert docs.in_work() == [23]
    assert len(docs.synced.vectors()) == 39


def test_a_row_that_killed_workers_revives_only_with_another_content(docs: Steps) -> None:
    docs.insert(_1="deadly")
    for _ in range(docs.runtime.settings.attempts):
        read(docs.runtime, docs.claim())
        docs.expire_leases()
    assert docs.try_claim() is None
    assert docs.synced.dead() == [([1], "worker_crashed")]
    docs.change(1, "harmless for a moment")
    docs.change(1, "deadly")
    outcome = docs.process()
    assert outcome is not None
    assert outcome.parked == 1
    assert docs.synced.endpoint.calls.requests == 0
    docs.change(1, "harmless")
    docs.synced.sync()
    assert docs.has_vector_of(1, "harmless")


def test_attempts_of_a_content_that_killed_workers_dont_count_for_the_next_one(docs: Steps) -> None:
    docs.insert(_1="deadly")
    for _ in range(docs.runtime.settings.attempts - 1):
        read(docs.runtime, docs.claim())
        docs.expire_leases()
    docs.change(1, "also deadly")
    read(docs.runtime, docs.claim())
    assert docs.work(1, "attempts") == 1
    docs.expire_leases()
    assert docs.try_claim() is not None, "not parked on its second attempt"


def test_a_change_during_a_crash_keeps_lease_and_attempts(docs: Steps) -> None:
    docs.insert(_1="one")
    batch = docs.claim()
    docs.change(1, "two")
    docs.drain()
    attempts, lease, generation = docs.work(1, "attempts", "lease", "generation")
    assert (attempts, lease, generation) == (1, batch.holding.lease, 2)
    docs.expire_leases()
    docs.synced.sync()
    assert docs.has_vector_of(1, "two")


def test_live_rows_go_before_bulk_rows_and_a_change_promotes_a_bulk_row(docs: Steps) -> None:
    docs.synced.run("ALTER TABLE docs DISABLE TRIGGER USER")
    docs.insert(_1="one", _2="two", _3="three")
    docs.synced.run("ALTER TABLE docs ENABLE TRIGGER USER")
    docs.synced.run(
        "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at) "
        "SELECT id, jsonb_build_array(i), 'bulk', now(), now() FROM pgvector_sync.pipeline, generate_series(1, 3) i"
    )
    docs.change(2, "two, changed")
    batch = docs.claim(Lane.LIVE)
    assert set(batch.rows) == {(2,)}
    bulk = docs.try_claim(Lane.BULK)
    assert bulk is not None
    assert set(bulk.rows) == {(1,), (3,)}


def test_a_live_row_is_never_demoted_by_a_backfill(docs: Steps) -> None:
    docs.insert(_1="one")
    docs.drain()
    docs.synced.declare(where="id > 0")
    docs.synced.apply()
    docs.synced.settle()
    assert docs.synced.endpoint.calls.requests == 1
    docs.synced.exact()
    assert docs.synced.database.execute(
        "SELECT state, rows_enqueued FROM pgvector_sync.run ORDER BY id DESC LIMIT 1"
    ) == [("finished", 0)]


def test_the_loop_takes_live_before_bulk_of_every_pipeline(docs: Steps) -> None:
    docs.synced.run("ALTER TABLE docs DISABLE TRIGGER USER")
    docs.synced.run("INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 50) AS i")
    docs.synced.run("ALTER TABLE docs ENABLE TRIGGER USER")
    docs.synced.declare(where="id > 0", batch_size=10)
    docs.synced.apply()  # 50 rows in bulk, 10 a batch
    docs.insert(_1000="live")
    docs.synced.settle()
    hashes = docs.synced.endpoint.calls.sha256
    assert hashes.index(_sha256("live")) < 20
    docs.synced.exact()


def _sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
