"""`doctor` as a whole: a healthy pipeline, the shape of its output, and checks that fail independently."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pgvector_sync.database import Connection
from pgvector_sync.engine import watch
from pgvector_sync.engine.watch import Verdict
from support.examined import errors, look, the, warnings
from support.roles import WORKER
from support.synced import Synced


def test_a_healthy_pipeline_has_no_errors(docs: Synced, redis_url: str) -> None:
    checks = look(docs.database.url_as(WORKER), REDIS_URL=redis_url, offline=False)
    assert errors(checks) == []
    assert {check.name for check in warnings(checks)} == {"beat", "relay", "workers"}, "no worker is running"
    assert "8 dimensions" in the("provider", checks).seen
    assert the("pooler", checks).seen.startswith("none")
    assert {check.pipeline for check in checks} == {None, "docs"}


def test_the_command_prints_a_stable_shape_and_its_exit_code(
    docs: Synced,
    command_line: Callable[..., tuple[int, str, str]],
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    code, out, err = command_line("doctor", "--json", "--offline")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed.keys() == {"version", "checks"}
    assert printed["version"] == 1
    assert {check["name"] for check in printed["checks"]} >= {"database", "capture", "redis"}
    for check in printed["checks"]:
        assert check.keys() == {"name", "level", "seen", "advice", "pipeline"}
    docs.run("ALTER TABLE docs DISABLE TRIGGER pgvector_sync_update")
    code, ill, _ = command_line("doctor", "--offline")
    assert code == 1
    assert 'ALTER TABLE "public"."docs" ENABLE TRIGGER "pgvector_sync_update";' in ill
    assert "1 error, " in ill
    assert ill.startswith("error    capture (docs): "), "errors come first"
    assert "\nok " not in ill
    assert "(--all shows them)" in ill
    code, every, _ = command_line("doctor", "--offline", "--all")
    assert code == 1
    lines = [line for line in every.splitlines() if not line.startswith(" ")]
    assert every.startswith("error    capture (docs): ")
    assert sum(line.startswith("ok ") for line in lines) > 15


def test_a_check_that_fails_does_not_hide_the_others(docs: Synced, redis_url: str) -> None:
    before = {(check.name, check.pipeline) for check in look(docs.database.url, REDIS_URL=redis_url)}
    docs.run("DROP TABLE pgvector_sync.tick", "DROP TABLE docs_embedding")
    after = look(docs.database.url, REDIS_URL=redis_url)
    assert {(check.name, check.pipeline) for check in after} == before - {("index", "docs")}
    assert {"beat", "target"} <= {check.name for check in errors(after)}


def test_the_schema_of_all_pipelines_is_examined_once(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    docs.pipeline("notes", text=["note"])
    examine_schema, examinations = watch.verdicts, []

    def counted(connection: Connection) -> list[Verdict]:
        examinations.append(connection)
        return examine_schema(connection)

    monkeypatch.setattr(watch, "verdicts", counted)
    checks = look(docs.database.url)
    assert {check.pipeline for check in checks if check.name == "capture"} == {"docs", "notes"}
    assert len(examinations) == 1
