"""The check of a pipeline's last reconciliation."""

from __future__ import annotations

from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.runs.run import carry_out
from support.examined import look, the
from support.synced import Synced
from support.waiting import within


def reconcile(docs: Synced) -> None:
    run = request_reconcile(docs.runtime.database, "docs").run_id
    carry_out(docs.runtime, run, until=within(10))


def test_a_pipeline_that_was_never_compared_is_ok(docs: Synced) -> None:
    check = the("drift", look(docs.database.url))
    assert (check.level, check.seen) == ("ok", "not compared yet")


def test_drift_is_a_warning_until_it_is_repaired(docs: Synced) -> None:
    docs.run("SET session_replication_role = replica; DELETE FROM docs_embedding WHERE id = 1")
    reconcile(docs)
    check = the("drift", look(docs.database.url))
    assert check.level == "warning"
    assert "1 missing, of 2 rows" in check.seen
    assert "pgvector-sync runs show 2" in (check.advice or "")
    docs.settle()
    reconcile(docs)
    check = the("drift", look(docs.database.url))
    assert check.level == "ok"
    assert "no drift" in check.seen


def test_an_overdue_reconciliation_is_a_warning_unless_it_is_switched_off(docs: Synced) -> None:
    reconcile(docs)
    docs.run("UPDATE pgvector_sync.drift SET at = at - interval '9 days'")
    check = the("drift", look(docs.database.url))
    assert check.level == "warning"
    assert "check that beat is running" in (check.advice or "")
    docs.declare(reconcile={"every": "off"})
    docs.apply()
    assert the("drift", look(docs.database.url)).level == "ok"
