"""The provider: key, host, and a real answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.examined import errors, look, the
from support.synced import Synced


def test_a_key_that_is_not_set(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    [error] = errors(look(docs.database.url))
    assert (error.name, error.pipeline) == ("provider", "docs")
    assert error.advice == "export TEST_KEY=... where the workers run"
    Path(".env").write_text("TEST_KEY=test-key\n")
    assert errors(look(docs.database.url, offline=False)) == []


def test_a_host_that_is_not_allowed(docs: Synced) -> None:
    docs.run("UPDATE pgvector_sync.provider SET base_url = 'https://example.com/v1'")
    [error] = errors(look(docs.database.url))
    assert "export PGVECTOR_SYNC_ALLOWED_HOSTS=http://127.0.0.1=TEST_KEY,example.com=TEST_KEY" in (
        error.advice or ""
    )
    [error] = errors(look(docs.database.url, allowed_hosts="example.com"))
    assert error.advice == (
        "if example.com may receive the key in TEST_KEY: export PGVECTOR_SYNC_ALLOWED_HOSTS=example.com=TEST_KEY"
    )
    assert errors(look(docs.database.url, allowed_hosts="example.com=TEST_KEY")) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ca_file = '/etc/ca.pem'", "export PGVECTOR_SYNC_CA_FILES=/etc/ca.pem"),
        ("""headers = '{"x-key": "$TEAM_KEY"}'""", "=TEAM_KEY"),
        ("""headers = '{"Host": "x"}'""", "correct it in pgvector-sync.toml"),
        ("""extra_body = '{"input": []}'""", "correct it in pgvector-sync.toml"),
        ("proxy = 'http://proxy.example'", "remove `proxy`"),
    ],
)
def test_options_that_this_environment_does_not_allow(docs: Synced, change: str, says: str) -> None:
    docs.run(f"UPDATE pgvector_sync.provider SET {change}")
    [error] = errors(look(docs.database.url))
    assert (error.name, error.pipeline) == ("provider", "docs")
    assert says in (error.advice or "")


@pytest.mark.parametrize(
    ("fault", "level"),
    [
        ({"status": 401}, "error"),
        ({"status": 400}, "error"),
        ({"status": 500}, "error"),
        ({"status": 429}, "warning"),
        ({"kind": "wrong_dimension"}, "error"),
    ],
)
@pytest.mark.quick_variants(4)
def test_a_provider_that_fails(docs: Synced, fault: dict[str, Any], level: str) -> None:
    before = docs.paid()
    docs.endpoint.fail(**fault)
    found = the("provider", look(docs.database.url, offline=False))
    assert found.level == level
    assert found.advice
    assert the("provider", look(docs.database.url)).level == "ok", "offline, the provider isn't called"
    docs.endpoint.heal()
    assert errors(look(docs.database.url, offline=False)) == []
    assert docs.paid() > before
