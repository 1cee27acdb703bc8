"""Missing privileges: each is refused with the statement that grants it, and the statement works."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.errors import Refused
from support.synced import OURS, Synced

ALL = {
    "usage": "GRANT USAGE ON SCHEMA {schema} TO {{role}}",
    "create": "GRANT CREATE ON SCHEMA {schema} TO {{role}}",
    "select": "GRANT SELECT ON {schema}.{table} TO {{role}}",
    "trigger": "GRANT TRIGGER ON {schema}.{table} TO {{role}}",
}


def prepared(synced: Synced, schema: str, table: str) -> None:
    synced.run(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.{table} (id int PRIMARY KEY, body text)")
    synced.run(f"INSERT INTO {schema}.{table} VALUES (1, 'one')")
    synced.declare(source=f"{schema}.{table}")


@pytest.mark.parametrize("names", [("shop", "docs"), ('"The Shop"', '"select"')])
def test_each_missing_grant_is_refused_with_the_statement_that_grants_it(
    synced: Synced, role: Callable[..., str], names: tuple[str, str]
):
    prepared(synced, *names)
    worker = role("worker", *OURS)
    asked = []
    with synced.acting_as(worker) as runtime:
        for _ in ALL:
            with pytest.raises(Refused, match=worker) as refused:
                synced.apply(runtime)
            asked.append(refused.value.hint)
            synced.run(refused.value.hint)
        synced.apply(runtime)
        synced.settle(runtime=runtime)
    synced.exact()
    assert [hint.split(" ON ")[0] for hint in asked] == [
        "GRANT USAGE",
        "GRANT SELECT",
        "GRANT TRIGGER",
        "GRANT CREATE",
    ]


def test_a_role_that_does_not_own_the_source_applies_syncs_and_removes(synced: Synced, role: Callable[..., str]):
    prepared(synced, "shop", "docs")
    worker = role("worker", *OURS, *(grant.format(schema="shop", table="docs") for grant in ALL.values()))
    with synced.acting_as(worker) as runtime:
        synced.apply(runtime)
        synced.settle(runtime=runtime)
        synced.run(
            "DELETE FROM shop.docs", "INSERT INTO shop.docs VALUES (2, 'two')", "UPDATE shop.docs SET id = 3"
        )
        synced.settle(runtime=runtime)
        synced.exact()
        synced.declare(source="shop.docs", text={"sql": "upper(body)"})
        synced.apply(runtime)
        synced.settle(runtime=runtime)
        synced.exact()
        synced.remove(runtime=runtime)
    assert synced.database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0


def test_capturing_replicated_changes_is_refused_to_a_role_that_does_not_own_the_source(
    synced: Synced, role: Callable[..., str]
):
    prepared(synced, "shop", "docs")
    worker = role("worker", *OURS, *(grant.format(schema="shop", table="docs") for grant in ALL.values()))
    synced.declare(source="shop.docs", capture_replicated=True)
    with synced.acting_as(worker) as runtime:
        with pytest.raises(Refused, match="capture_replicated") as refused:
            synced.apply(runtime)
        assert synced.names() == []
        synced.run(refused.value.hint)
        synced.apply(runtime)
    enabled = synced.database.execute("SELECT DISTINCT tgenabled FROM pg_trigger WHERE NOT tgisinternal")
    assert enabled == [("A",)]


@pytest.mark.parametrize("force", [False, True])
def test_a_source_whose_rows_are_hidden_from_the_worker_is_refused_with_the_statement(
    synced: Synced, role: Callable[..., str], force: bool
):
    prepared(synced, "shop", "docs")
    worker = role("worker", *OURS, *(grant.format(schema="shop", table="docs") for grant in ALL.values()))
    synced.run("ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY")
    if force:
        synced.run("ALTER TABLE shop.docs FORCE ROW LEVEL SECURITY", f"ALTER TABLE shop.docs OWNER TO {worker}")
    with synced.acting_as(worker) as runtime:
        with pytest.raises(Refused, match="row-level security hides rows") as refused:
            synced.apply(runtime)
        statement, _, _ = refused.value.hint.partition(";")
        synced.run(statement)
        synced.apply(runtime)
        synced.settle(runtime=runtime)
    synced.exact()


def test_rows_that_a_new_policy_hides_from_the_worker_are_not_taken_for_deleted(
    synced: Synced, role: Callable[..., str]
):
    prepared(synced, "shop", "docs")
    worker = role("worker", *OURS, *(grant.format(schema="shop", table="docs") for grant in ALL.values()))
    synced.run("INSERT INTO shop.docs VALUES (2, 'two'), (3, 'three')")
    with synced.acting_as(worker) as runtime:
        synced.apply(runtime)
        synced.settle(runtime=runtime)
        synced.run(
            "ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY",
            "UPDATE shop.docs SET body = 'dos' WHERE id = 2",
            "DELETE FROM shop.docs WHERE id = 1",
        )
        assert set(synced.vectors()) == {(2,), (3,)}
        with pytest.raises(AssertionError, match="not settled"):
            synced.settle(seconds=0.3, runtime=runtime)
        assert set(synced.vectors()) == {(2,), (3,)}
        state, reason = synced.database.execute("SELECT state, reason FROM pgvector_sync.pipeline")[0]
        assert (state, "42501" in reason) == ("misconfigured", True)
        synced.run(
            "ALTER TABLE shop.docs DISABLE ROW LEVEL SECURITY",
            "UPDATE pgvector_sync.pipeline SET state = 'active'",
        )
        synced.settle(runtime=runtime)
    synced.sync()
    assert set(synced.vectors()) == {(2,), (3,)}


def test_a_truncate_under_a_policy_that_hides_all_rows_sweeps_nothing(synced: Synced, role: Callable[..., str]):
    prepared(synced, "shop", "docs")
    worker = role("worker", *OURS, *(grant.format(schema="shop", table="docs") for grant in ALL.values()))
    with synced.acting_as(worker) as runtime:
        synced.apply(runtime)
        synced.settle(runtime=runtime)
        synced.run(
            "ALTER TABLE shop.docs ENABLE ROW LEVEL SECURITY",
            "TRUNCATE shop.docs",
            "INSERT INTO shop.docs VALUES (1, 'one')",
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            synced.settle(runtime=runtime)
        assert None in synced.events(), "the sweep is still to be done"
        assert set(synced.vectors()) == {(1,)}
