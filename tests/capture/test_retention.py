"""Retention: a dropped partition takes its vectors along, and nothing that only looks like it does."""

from __future__ import annotations

from typing import Any

import pytest

from pgvector_sync.model.request import Reconcile
from pgvector_sync.observe.waiting import find_run
from pgvector_sync.runs import run
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.runtime import Runtime
from pgvector_sync.store.runs import Run
from support.beginnings import begins_with
from support.synced import OURS, Synced, role
from support.waiting import within

YEARS = (2021, 2022, 2023, 2024)
ROWS = 5
"""Per year."""


def create(synced: Synced, years: tuple[int, ...] = YEARS, filled: tuple[int, ...] = YEARS) -> None:
    synced.run(
        "CREATE TABLE docs (id int, at date, body text, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        *(
            f"CREATE TABLE docs_{year} PARTITION OF docs FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
            for year in years
        ),
        *(
            f"INSERT INTO docs SELECT n, '{year}-06-01', 'text ' || n || ' of {year}' FROM generate_series(1, {ROWS}) n"
            for year in filled
        ),
    )


def four_partitions(synced: Synced) -> None:
    """Four partitions of five rows, each with its vector."""
    create(synced)
    synced.pipeline()


beginning, docs = begins_with(four_partitions)


def reconciled(synced: Synced, runtime: Runtime | None = None, **options: Any) -> Run:
    requested = request_reconcile(synced.owner.database, "docs", Reconcile(**options))
    run.carry_out(runtime or synced.runtime, requested.run_id, until=within(20))
    return find_run(synced.runtime, requested.run_id)


def years(synced: Synced) -> set[str]:
    return {str(key[1])[:4] for key in synced.vectors()}


def kept(synced: Synced, ended: Run) -> None:
    """Nothing was removed, and nothing will be."""
    assert ended.state == "failed", ended
    synced.settle()
    assert len(synced.vectors()) == ROWS * len(YEARS)


@pytest.mark.parametrize("statement", ["DROP TABLE docs_2021", "ALTER TABLE docs DETACH PARTITION docs_2021"])
def test_a_partition_that_is_dropped_takes_its_vectors_along(docs: Synced, statement: str) -> None:
    docs.run(statement)
    ended = reconciled(docs)
    assert (ended.counts["orphaned"], ended.counts["unplaced"]) == (ROWS, ROWS)
    docs.sync()
    assert years(docs) == {"2022", "2023", "2024"}
    assert find_run(docs.runtime, ended.id).state in ("running", "finished")
    assert reconciled(docs).samples == {}


def test_all_but_the_last_may_go(docs: Synced) -> None:
    docs.run("DROP TABLE docs_2021", "DROP TABLE docs_2022", "DROP TABLE docs_2023")
    assert reconciled(docs, page_rows=3).state == "running"
    docs.sync()
    assert years(docs) == {"2024"}


def test_a_dry_run_counts_them_and_removes_nothing(docs: Synced) -> None:
    docs.run("DROP TABLE docs_2021")
    ended = reconciled(docs, dry_run=True)
    assert (ended.state, ended.counts["unplaced"]) == ("finished", ROWS)
    docs.settle()
    assert len(docs.vectors()) == ROWS * 4


def test_the_rest_of_the_orphans_is_judged_without_them(docs: Synced) -> None:
    docs.run(
        "SET session_replication_role = replica; DELETE FROM docs WHERE at < '2023-01-01' AND at > '2022-01-01'"
    )
    docs.run("DROP TABLE docs_2021")
    ended = reconciled(docs)
    assert ended.state == "failed"
    assert "5 of 15 vectors look orphaned" in (ended.reason or "")
    docs.settle()
    assert years(docs) == {"2022", "2023", "2024"}, "vectors of rows whose deletion we could not see stay"


@pytest.mark.parametrize(
    "emptied",
    [
        "DELETE FROM docs WHERE at < '2022-01-01'; DELETE FROM docs WHERE at < '2023-01-01'",
        "TRUNCATE docs_2021, docs_2022",
        """DROP TABLE docs_2021; TRUNCATE docs_2022;
           CREATE TABLE docs_2021 PARTITION OF docs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')""",
    ],
)
def test_rows_missing_from_a_partition_that_is_there_keep_their_vectors(docs: Synced, emptied: str) -> None:
    docs.run(f"SET session_replication_role = replica; {emptied}")
    kept(docs, reconciled(docs))


def test_a_table_without_a_partition_keeps_all_vectors(docs: Synced) -> None:
    docs.run(*(f"ALTER TABLE docs DETACH PARTITION docs_{year}" for year in YEARS))
    kept(docs, reconciled(docs))


def test_a_default_partition_could_hold_anything(synced: Synced) -> None:
    create(synced)
    synced.run("CREATE TABLE docs_rest PARTITION OF docs DEFAULT")
    synced.pipeline()
    synced.run("DROP TABLE docs_2021")
    kept(synced, reconciled(synced))
    assert reconciled(synced, accept_orphans=True).state == "running"
    synced.sync()


@pytest.mark.parametrize("again", [False, True])
def test_a_table_that_is_restored_in_part_keeps_the_vectors(docs: Synced, again: bool) -> None:
    docs.run("DROP TABLE docs")
    create(docs, years=(2023, 2024), filled=(2023, 2024))
    docs.apply()
    docs.settle()
    kept(docs, reconciled(docs))
    if again:
        kept(docs, reconciled(docs, deep=True))
    docs.run("CREATE TABLE docs_2021 PARTITION OF docs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')")
    docs.run("CREATE TABLE docs_2022 PARTITION OF docs FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')")
    for year in (2021, 2022):
        docs.run(
            f"INSERT INTO docs SELECT n, '{year}-06-01', 'text ' || n || ' of {year}' FROM generate_series(1, {ROWS}) n"
        )
    paid = docs.paid()
    docs.sync()
    assert docs.paid() == paid, "they are all still there"
    assert reconciled(docs).samples == {}
    docs.run("DROP TABLE docs_2021")
    assert reconciled(docs).state == "running", "compared once, the new table is known"
    docs.sync()


@pytest.mark.parametrize(
    "closed", ["REVOKE SELECT ON docs FROM {role}", "ALTER TABLE docs ENABLE ROW LEVEL SECURITY"]
)
def test_what_a_role_may_not_read_is_not_taken_for_dropped(docs: Synced, closed: str) -> None:
    docs.owns("docs")
    grants = (*OURS, "GRANT SELECT ON docs TO {role}", "GRANT ALL ON docs_embedding TO {role}")
    with role(docs.database, "worker", *grants) as worker, docs.acting_as(worker) as runtime:
        assert reconciled(docs, runtime).samples == {}
        docs.run(closed.format(role=worker), "DROP TABLE docs_2021")
        ended = reconciled(docs, runtime)
    assert ended.state == "failed"
    assert "42501" in (ended.reason or "")
    docs.run("ALTER TABLE docs DISABLE ROW LEVEL SECURITY")
    docs.settle()
    assert len(docs.vectors()) == ROWS * 4


def test_keys_are_placed_by_the_types_and_collations_of_the_table(synced: Synced) -> None:
    synced.run(
        'CREATE TABLE docs (region text COLLATE "C", id int, body text, note text, PRIMARY KEY (region, id))'
        " PARTITION BY RANGE (region)",
        "CREATE TABLE docs_upper PARTITION OF docs FOR VALUES FROM ('A') TO ('a') PARTITION BY HASH (id)",
        "CREATE TABLE docs_upper_0 PARTITION OF docs_upper FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE docs_upper_1 PARTITION OF docs_upper FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "CREATE TABLE docs_lower PARTITION OF docs FOR VALUES FROM ('a') TO ('{')",
        "INSERT INTO docs SELECT r, n, r || n FROM unnest(ARRAY['A', 'Z', 'b', 'z%']) r, generate_series(1, 4) n",
    )
    synced.pipeline()
    synced.run("DROP TABLE docs_lower")
    assert reconciled(synced).counts["unplaced"] == 8
    synced.sync()
    synced.run("ALTER TABLE docs_upper DETACH PARTITION docs_upper_1")
    gone = reconciled(synced).counts["unplaced"]
    assert 0 < gone < 8
    synced.sync()
    assert {key[0] for key in synced.vectors()} == {"A", "Z"}
    assert len(synced.vectors()) == 8 - gone


def test_a_pipeline_that_takes_vectors_over_asks_a_person_first(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.pipeline SET known_table = NULL", "DROP TABLE docs_2021")
    kept(docs, reconciled(docs))


def test_a_partition_that_is_truncated_before_it_is_dropped_needs_no_reconciliation(synced: Synced) -> None:
    create(synced)
    synced.run("CREATE TABLE docs_rest PARTITION OF docs DEFAULT")
    synced.pipeline()
    synced.run("TRUNCATE docs_2021", "DROP TABLE docs_2021")
    synced.sync()
    assert years(synced) == {"2022", "2023", "2024"}
