"""`reembed`, `reconcile` and `runs`: input, output and error messages."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgvector_sync.cli import console
from pgvector_sync.cli.console import announcing_background_run
from pgvector_sync.engine.loop import Loop
from pgvector_sync.observe.waiting import find_run, what_holds_up
from support.beginnings import begins_with, ten_rows
from support.synced import Synced

Typed = Callable[..., tuple[int, str, str]]
KINDS = ["missing", "stale", "orphaned", "wrong_model", "broken", "incomplete", "stuck"]


beginning, synced = begins_with(ten_rows)


@pytest.fixture
def working(synced: Synced) -> Iterator[None]:
    """Rows are embedded in a background thread."""
    over = threading.Event()
    loop = Loop(synced.runtime)
    thread = threading.Thread(target=lambda: loop.run(finished=over.is_set))
    thread.start()
    yield
    over.set()
    thread.join()


def drift(synced: Synced) -> None:
    synced.run(
        "SET session_replication_role = replica; INSERT INTO docs VALUES (11, 'missing'); "
        "UPDATE docs SET body = 'other' WHERE id = 1; DELETE FROM docs WHERE id = 2"
    )


def test_a_re_embed_is_a_row_that_any_worker_carries_out(synced: Synced, typed: Typed) -> None:
    code, out, _ = typed("reembed", "docs", "--force", "--yes")
    assert code == 0
    assert "requested run 2, carried out by a worker" in out
    code, _, err = typed("reembed", "docs", "--force", "--yes")
    assert (code, "an identical re-embed is already running: run 2" in err) == (0, True)
    paid = synced.paid()
    synced.settle()
    assert synced.paid() == paid + 10
    code, out, _ = typed("runs", "list", "--json")
    assert [(run["id"], run["kind"], run["rows_enqueued"]) for run in json.loads(out)["runs"]] == [
        (2, "reembed", 10),
        (1, "backfill", 10),
    ]


@pytest.mark.usefixtures("working")
def test_waiting_for_a_re_embed_ends_with_its_last_row(typed: Typed) -> None:
    code, out, _ = typed("reembed", "docs", "--force", "--yes", "--wait")
    assert (code, out) == (0, "run 2 finished: 10 rows seen, 10 enqueued\n")
    code, out, _ = typed("reembed", "docs", "--where", "id > 7", "--force", "--yes", "--wait", "--json")
    document = json.loads(out)
    run = document.pop("run")
    assert document == {"version": 1}
    assert (run["id"], run["state"], run["reason"]) == (3, "finished", None)
    assert (run["rows_seen"], run["rows_enqueued"], run["dead"]) == (10, 3, 0)


def test_keys_come_from_a_file_or_from_standard_input(
    synced: Synced, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text("\ufeff1\n\n[3]\n")
    assert typed("reembed", "docs", "--keys", "keys", "--force", "--yes")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("5\n"))
    assert typed("reembed", "docs", "--keys", "-")[0] == 0
    keys = "SELECT run_id, key FROM pgvector_sync.run_key ORDER BY run_id, key"
    assert synced.database.execute(keys) == [(2, [1]), (2, [3]), (3, [5])]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("reembed", "nothing"), 1, "there is no pipeline nothing"),
        (("reembed", "docs", "--where", "idd > 3"), 1, 'column "idd" does not exist'),
        (("reembed", "docs", "--where", "id < 3) OR (true"), 1, 'syntax error at or near ")"'),
        (("reembed", "docs", "--keys", "absent"), 2, "absent: can't be read: No such file or directory"),
        (("reembed", "docs", "--keys", "bad"), 2, "--keys bad, line 2: expected a key of (id bigint), got many"),
        (("reembed", "docs", "--keys", "binary"), 2, "--keys binary: expected UTF-8 text"),
        (("reembed", "docs", "--keys", "empty"), 1, "the list of keys is empty"),
        (("reembed", "docs", "--keys", "bad", "--where", "id = 1"), 1, "expected a condition or keys, got both"),
        (("reembed", "docs", "--limit-rate", "0"), 2, "--limit-rate"),
        (("reembed", "docs", "--limit-rate", "inf"), 1, "expected 0.01 or more rows per second, got inf"),
        (("reconcile", "nothing"), 1, "there is no pipeline nothing"),
        (("runs", "show", "99"), 1, "run 99 doesn't exist"),
        (("runs", "cancel", "1"), 1, "run 1 has already ended"),
        (("runs", "list", "nothing"), 1, "there is no pipeline nothing"),
    ],
)
@pytest.mark.quick_variants(4)
def test_invalid_requests_are_refused_with_a_message(
    synced: Synced, typed: Typed, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "bad").write_text("1\nmany\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"1\n\xff\n")
    found, out, err = typed(*arguments)
    assert (found, out) == (code, "")
    assert words in " ".join(err.split())
    assert "Traceback" not in err
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.run") == 1


def test_a_dry_run_shows_what_has_drifted_and_exits_1(synced: Synced, typed: Typed) -> None:
    drift(synced)
    code, out, err = typed("reconcile", "docs", "--dry-run", "--deep", "--json")
    assert code == 1
    report = json.loads(out)
    assert report["version"] == 1
    [found] = report["reconciliations"]
    assert {kind: found[kind] for kind in KINDS} == {
        "missing": 1, "stale": 1, "orphaned": 1, "wrong_model": 0, "broken": 0, "incomplete": 0, "stuck": 0,
    }  # fmt: skip
    assert found["samples"]["missing"] == [[11]]
    assert (found["rows"], found["vectors"], found["dry_run"], found["state"]) == (10, 10, True, "finished")
    assert "docs: 3 rows have drifted" in err
    assert "pgvector-sync reconcile docs --deep" in err
    code, out, _ = typed("reconcile", "--dry-run")
    assert code == 1
    assert "docs: missing: 11" in out
    assert "texts and vectors were not compared; use --deep to compare them" in out


def test_a_single_row_that_has_drifted_is_one_row(synced: Synced, typed: Typed) -> None:
    synced.run("DELETE FROM docs_embedding WHERE id = 1")
    assert "docs: 1 row has drifted" in typed("reconcile", "docs", "--dry-run")[2]


@pytest.mark.usefixtures("working")
def test_waiting_for_a_reconciliation_ends_when_all_drift_is_repaired(synced: Synced, typed: Typed) -> None:
    drift(synced)
    code, _, err = typed("reconcile", "docs", "--deep", "--wait")
    assert (code, "docs: repaired 3 drifted rows" in err) == (0, True)
    synced.exact()
    code, out, _ = typed("reconcile", "docs", "--deep", "--wait", "--json")
    assert code == 0
    assert {kind: json.loads(out)["reconciliations"][0][kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    code, out, _ = typed("reconcile", "--trend", "--json")
    assert [figures["stale"] for figures in json.loads(out)["reconciliations"]] == [0, 1]


@pytest.mark.usefixtures("working")
def test_progress_is_that_of_the_rows_asked_for(synced: Synced, typed: Typed) -> None:
    synced.run("INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(11, 500) n")
    synced.settle()
    code, _, err = typed("reembed", "docs", "--where", "id > 493", "--force", "--yes", "--wait")
    assert code == 0
    assert "re-embedding: 7 of 7" in err
    assert "re-embedding: 500" not in err


def test_a_run_can_be_shown_and_cancelled(typed: Typed) -> None:
    typed("reembed", "docs", "--where", "id > 3", "--limit-rate", "0.5")
    code, out, _ = typed("runs", "show", "2")
    assert code == 0
    assert "2, reembed of docs" in out
    assert "where id > 3" in out
    code, out, _ = typed("runs", "cancel", "2")
    assert (code, out) == (0, "cancelled run 2\n")
    assert json.loads(typed("runs", "show", "2", "--json")[1])["run"]["state"] == "cancelled"


def test_a_backfill_is_not_cancelled(synced: Synced, typed: Typed) -> None:
    synced.declare(where="id > 0")
    synced.apply()
    code, _, err = typed("runs", "cancel", "2")
    assert code == 1
    assert "a backfill can't be cancelled" in err
    assert "pgvector-sync pause docs" in err


def test_waiting_reports_what_holds_up_the_run(synced: Synced, typed: Typed) -> None:
    first, second = (
        json.loads(typed("reembed", "docs", "--force", "--yes", "--limit-rate", rate, "--json")[1])["run_id"]
        for rate in ("1", "2")
    )
    run = find_run(synced.runtime, second)
    assert what_holds_up(synced.runtime, run).startswith(f"waiting for run {first} to finish")
    typed("runs", "cancel", str(first))
    assert what_holds_up(synced.runtime, run).startswith("no worker is running; start a worker")
    typed("pause", "docs")
    assert what_holds_up(synced.runtime, run) == "docs is paused: pgvector-sync resume docs"


@pytest.mark.usefixtures("working")
def test_a_row_that_reconciliation_could_not_repair_is_reported(synced: Synced, typed: Typed) -> None:
    drift(synced)
    synced.endpoint.fail(status=400, marker="missing")
    code, _, err = typed("reconcile", "docs", "--deep", "--wait")
    assert code == 1
    assert "3 rows had drifted; 1 of them became dead letters" in " ".join(err.split())


def test_ctrl_c_while_waiting_says_that_the_run_continues(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), announcing_background_run(7):
        raise KeyboardInterrupt
    assert "run 7 continues in the background" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [("reembed", "docs", "--wait"), ("reconcile", "--wait"), ("reconcile", "--dry-run")]
)
def test_waiting_for_a_paused_pipeline_is_refused_and_starts_no_run(
    synced: Synced, typed: Typed, command: tuple[str, ...]
) -> None:
    typed("pause", "docs")
    code, _, err = typed(*command)
    assert (code, "docs is paused" in err) == (1, True)
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.run WHERE state = 'running'") == 0


def test_no_number_is_truncated_on_a_narrow_terminal(
    synced: Synced, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 40)
    synced.database.execute("UPDATE pgvector_sync.run SET rows_seen = 1234567, rows_total = 1234567")
    drift(synced)
    typed("reconcile", "--dry-run", "--deep")
    for command in (("runs", "list"), ("reconcile", "--trend")):
        out = typed(*command)[1]
        assert "…" not in out
    assert "1,234,567" in typed("runs", "list")[1]
