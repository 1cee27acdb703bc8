"""What `doctor` says of the last reconciliation."""

from __future__ import annotations

from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.runs.run import carry_out
from support.examined import look, the
from support.synced import Synced
from support.waiting import within


def reconcile(docs: Synced) -> None:
    run = request_reconcile(docs.runtime.database, "docs").run_id
    carry_out(docs.runtime, run, until=within(10))


def test_a_pipeline_that_was_never_compared_is_fine_and_told_how(docs: Synced) -> None:
    check = the("drift", look(docs.database.url))
    assert (check.level, check.seen) == ("ok", "not compared yet")


def test_what_has_drifted_is_a_warning_until_nothing_has(docs: Synced) -> None:
    docs.run("SET session_replication_role = replica; DELETE FROM docs_embedding WHERE id = 1")
    reconcile(docs)
    check = the("drift", look(docs.database.url))
    assert check.level == "warning"
    assert "1 missing of 2 rows had drifted" in check.seen
    assert "pgvector-sync runs show 2" in (check.advice or "")
    docs.settle()
    reconcile(docs)
    check = the("drift", look(docs.database.url))
    assert check.level == "ok"
    assert "nothing had drifted" in check.seen


def test_one_that_is_long_ago_is_a_warning_unless_none_is_wanted(docs: Synced) -> None:
    reconcile(docs)
    docs.run("UPDATE pgvector_sync.drift SET at = at - interval '9 days'")
    check = the("drift", look(docs.database.url))
    assert check.level == "warning"
    assert "is a beat running?" in (check.advice or "")
    docs.declare(reconcile={"every": "off"})
    docs.apply()
    assert the("drift", look(docs.database.url)).level == "ok"
