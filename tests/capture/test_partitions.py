"""Partitioned sources: row triggers are on the parent and cloned, TRUNCATE triggers on each partition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.model.request import Reconcile, Reembed
from pgvector_sync.runs.requests import request_reconcile, request_reembed
from support.beginnings import begins_with
from support.synced import OURS, Synced

EVENTS = [
    "CREATE TABLE docs (id int, year int, body text, note text, PRIMARY KEY (id, year)) PARTITION BY RANGE (year)",
    "CREATE TABLE docs_old PARTITION OF docs FOR VALUES FROM (2000) TO (2020)",
    "CREATE TABLE docs_new PARTITION OF docs FOR VALUES FROM (2020) TO (2030) PARTITION BY LIST (year)",
    "CREATE TABLE docs_2024 PARTITION OF docs_new FOR VALUES IN (2024)",
    "CREATE TABLE docs_rest PARTITION OF docs_new DEFAULT",
    "INSERT INTO docs VALUES (1, 2001, 'a'), (2, 2024, 'b'), (3, 2025, 'c'), (4, 2001, 'd')",
]


def two_levels(synced: Synced) -> None:
    """Two levels: docs_old, docs_2024 and docs_rest are leaves."""
    synced.run(*EVENTS)
    synced.pipeline()
    assert len(synced.vectors()) == 4


beginning, docs = begins_with(two_levels)


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        pytest.param("INSERT INTO docs VALUES (9, 2024, 'x')", [[9, 2024]], id="insert-through-the-parent"),
        pytest.param("INSERT INTO docs_2024 VALUES (9, 2024, 'x')", [[9, 2024]], id="insert-into-a-leaf"),
        pytest.param("INSERT INTO docs_new VALUES (9, 2026, 'x')", [[9, 2026]], id="insert-into-a-middle-level"),
        pytest.param("UPDATE docs_2024 SET body = 'x'", [[2, 2024]], id="update-of-a-leaf"),
        pytest.param("UPDATE docs_2024 SET note = 'x'", [], id="untracked-update-of-a-leaf"),
        pytest.param("DELETE FROM docs_2024", [[2, 2024]], id="delete-from-a-leaf"),
        pytest.param("UPDATE docs SET year = 2002 WHERE id = 1", [[1, 2002], [1, 2001]], id="key-change-in-place"),
        pytest.param("UPDATE docs SET year = 2024 WHERE id = 1", [[1, 2001], [1, 2024]], id="move"),
        pytest.param(
            "UPDATE docs SET year = 2025, body = 'x' WHERE id = 2", [[2, 2024], [2, 2025]], id="move-inside-a-level"
        ),
    ],
)  # fmt: skip
@pytest.mark.quick_variants(5)
def test_a_write_is_captured_wherever_it_is_aimed(docs: Synced, statement: str, keys: list[list[int]]):
    docs.run(statement)
    assert sorted(docs.events()) == sorted(keys)
    docs.sync()


def test_a_row_that_moves_between_partitions_without_changing_its_key_is_dirty_and_not_gone(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int, region text, body text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE docs_eu PARTITION OF docs FOR VALUES IN ('eu')",
        "CREATE TABLE docs_us PARTITION OF docs FOR VALUES IN ('us')",
        "INSERT INTO docs VALUES (1, 'eu', 'one'), (2, 'us', 'two')",
    )
    synced.pipeline()
    synced.run("UPDATE docs SET region = 'us' WHERE id = 1")
    assert set(synced.vectors()) == {(2, "us")}  # a move is a delete and an insert: gone is gone
    synced.sync()
    assert set(synced.vectors()) == {(1, "us"), (2, "us")}


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("TRUNCATE docs", set()),
        ("TRUNCATE docs_old", {(2, 2024), (3, 2025)}),
        ("TRUNCATE docs_new", {(1, 2001), (4, 2001)}),
        ("TRUNCATE docs_2024", {(1, 2001), (3, 2025), (4, 2001)}),
    ],
)
def test_a_truncate_of_the_table_or_of_any_partition_is_swept(
    docs: Synced, statement: str, left: set[tuple[int, int]]
):
    docs.run(statement)
    assert set(docs.events()) <= {None}
    assert docs.events()
    docs.sync()
    assert set(docs.vectors()) == left


def test_row_triggers_reach_a_partition_made_later_and_the_next_apply_gives_it_the_truncate_trigger(docs: Synced):
    docs.run(
        "CREATE TABLE docs_1990 PARTITION OF docs FOR VALUES FROM (1990) TO (2000)",
        "INSERT INTO docs VALUES (5, 1995, 'e')",
        "UPDATE docs_1990 SET body = 'E'",
    )
    assert docs.events() == [[5, 1995], [5, 1995]]
    docs.sync()
    (pending,) = docs.apply().pending
    assert pending.missing_triggers == ("pgvector_sync_truncate on public.docs_1990",)
    assert pending.changes == ()
    docs.run("TRUNCATE docs_1990")
    assert docs.events() == [None]
    docs.sync()
    assert docs.plan().empty


def test_changes_of_a_partition_that_was_attached_are_captured(docs: Synced):
    docs.run(
        "CREATE TABLE ready (LIKE docs INCLUDING ALL)",
        "ALTER TABLE docs ATTACH PARTITION ready FOR VALUES FROM (1990) TO (2000)",
        "INSERT INTO ready VALUES (5, 1995, 'e')",
        "UPDATE ready SET body = 'E'",
        "DELETE FROM ready",
    )
    assert docs.events() == [[5, 1995]] * 3
    docs.sync()


def test_a_partition_that_was_detached_is_no_longer_captured(docs: Synced):
    docs.run(
        "ALTER TABLE docs DETACH PARTITION docs_old",
        "INSERT INTO docs_old VALUES (7, 2003, 'x')",
        "UPDATE docs_old SET body = 'y'",
        "DELETE FROM docs_old WHERE id = 4",
    )
    assert docs.events() == []
    assert (1, 2001) in docs.vectors()  # DETACH fires no trigger: orphans, which the next reconcile removes


def test_a_truncate_of_a_detached_partition_does_no_harm(docs: Synced):
    docs.run(
        "ALTER TABLE docs DETACH PARTITION docs_old",
        "TRUNCATE docs_old",
        "INSERT INTO docs_old VALUES (1, 1, 'x')",
    )
    docs.sync()
    assert set(docs.vectors()) == {(2, 2024), (3, 2025)}


def test_removing_works_after_a_partition_was_detached(docs: Synced):
    docs.run("ALTER TABLE docs DETACH PARTITION docs_old")
    docs.remove()
    docs.run("TRUNCATE docs_old", "INSERT INTO docs VALUES (7, 2024, 'x')", "TRUNCATE docs")
    assert docs.database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0


def test_dropping_a_partition_leaves_the_source_working(docs: Synced):
    docs.run("DROP TABLE docs_old", "INSERT INTO docs VALUES (7, 2024, 'x')", "DELETE FROM docs WHERE id = 2")
    assert docs.events() == [[7, 2024], [2, 2024]]
    assert docs.plan().empty


def test_the_owner_of_a_partitioned_table_may_go_on_making_partitions(synced: Synced, role: Callable[..., str]):
    owner = role("owner", "GRANT ALL ON SCHEMA public TO {role}")
    worker = role("worker", *OURS, "GRANT CREATE ON SCHEMA public TO {role}")
    with synced.database.connect_as(owner) as connection:
        connection.execute("CREATE TABLE docs (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
        connection.execute(f"GRANT SELECT, TRIGGER ON docs TO {worker}")
        synced.declare()
        with synced.acting_as(worker) as runtime:
            synced.apply(runtime)
            connection.execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (100)")
            connection.execute("CREATE TABLE docs_2 (LIKE docs INCLUDING ALL)")
            connection.execute("ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (100) TO (200)")
            connection.execute("INSERT INTO docs VALUES (1, 'one'), (101, 'two')")
            synced.settle(runtime=runtime)
        assert set(synced.vectors()) == {(1,), (101,)}


TIMED = [
    """CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz, body text,
                          PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)""",
    "CREATE TABLE docs_01 PARTITION OF docs FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00')",
    "CREATE TABLE docs_02 PARTITION OF docs FOR VALUES FROM ('2026-02-01+00') TO ('2026-03-01+00')",
    """INSERT INTO docs (created_at, body)
       SELECT '2026-01-15 12:00:00.000001+00'::timestamptz + g * interval '1 day', 'text ' || g
       FROM generate_series(1, 30) g""",
]


def test_a_source_partitioned_by_the_time_in_its_key_is_followed_from_end_to_end(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pgvector_sync.runs.bulk.PAGE_ROWS", 7)
    monkeypatch.setattr("pgvector_sync.runs.reconcile.FIRST_PAGE_ROWS", 7)
    synced.run(*TIMED)
    synced.pipeline()
    assert (1, "2026-01-16T12:00:00.000001Z") in synced.vectors()
    with synced.database.connect(options="-c TimeZone=Pacific/Auckland -c DateStyle=SQL,DMY") as writer:
        writer.execute("UPDATE docs SET body = 'changed' WHERE id = 2")
        writer.execute("UPDATE docs SET created_at = created_at + interval '10 days' WHERE id = 10")  # moves on
        writer.execute("DELETE FROM docs WHERE id = 3")
        writer.execute("INSERT INTO docs (created_at, body) VALUES ('2026-02-28 23:59:59.999999+00', 'last')")
    assert [2, "2026-01-17T12:00:00.000001Z"] in synced.events()
    synced.sync()
    with synced.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE docs SET body = 'unseen' WHERE id = 5")
        connection.execute("DELETE FROM docs WHERE id = 6")
    request_reconcile(synced.runtime.database, "docs", Reconcile(deep=True))
    synced.settle()
    synced.exact()
    request_reembed(
        synced.runtime.database, "docs", Reembed(force=True), keys=[(1, "2026-01-16T12:00:00.000001Z")]
    )
    paid = synced.paid()
    synced.settle()
    assert synced.paid() == paid + 1
    assert synced.plan().empty
