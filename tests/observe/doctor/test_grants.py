"""Missing privileges are found, and the advice grants what a worker needs and no more."""

from __future__ import annotations

import psycopg
import pytest

from support.examined import errors, follow_advice, look
from support.synced import Synced


def test_a_role_without_any_right_gets_what_a_worker_needs_and_no_more(docs: Synced, worker_role: str) -> None:
    url = docs.database.url_as(worker_role)
    assert {"grants", "source", "target"} <= set(follow_advice(docs.database, url))
    docs.run(
        "INSERT INTO docs VALUES (3, 'three')",
        "UPDATE docs SET body = 'uno' WHERE id = 1",
        "DELETE FROM docs WHERE id = 2",
    )
    with docs.acting_as(worker_role) as worker:
        docs.settle(runtime=worker)
    docs.exact()
    granted = "SELECT has_table_privilege(%s, 'docs', 'UPDATE'), has_table_privilege(%s, 'pgvector_sync.provider', 'UPDATE')"
    assert docs.database.execute(granted, worker_role, worker_role) == [(False, False)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("source", "REVOKE SELECT ON docs FROM {role}"),
        ("source", "ALTER TABLE docs ENABLE ROW LEVEL SECURITY"),
        ("target", "REVOKE DELETE ON docs_embedding FROM {role}"),
        ("grants", "REVOKE UPDATE ON pgvector_sync.work FROM {role}"),
        ("grants", "REVOKE USAGE ON SCHEMA pgvector_sync FROM {role}"),
    ],
)
@pytest.mark.quick_variants(2)
def test_what_a_role_may_not_do(docs: Synced, worker_role: str, name: str, fault: str) -> None:
    url = docs.database.url_as(worker_role)
    follow_advice(docs.database, url)
    docs.run(fault.format(role=worker_role))
    assert follow_advice(docs.database, url) == [name]


def test_a_column_grant_is_enough(docs: Synced, worker_role: str) -> None:
    url = docs.database.url_as(worker_role)
    follow_advice(docs.database, url)
    docs.run(f"REVOKE SELECT ON docs FROM {worker_role}", f"GRANT SELECT (id, body) ON docs TO {worker_role}")
    assert errors(look(url)) == []


def test_a_trigger_owner_who_may_not_write_to_the_outbox(docs: Synced, worker_role: str) -> None:
    docs.run(f"ALTER FUNCTION pgvector_sync.insert_1 OWNER TO {worker_role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        docs.run("INSERT INTO docs VALUES (3, 'three')")
    assert follow_advice(docs.database, docs.database.url) == ["grants"]
    docs.run("INSERT INTO docs VALUES (3, 'three')")
