"""Settings from the environment and `.env`, and their table in the docs."""

from datetime import timedelta
from pathlib import Path

import pytest

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings, load_settings, unknown_variables
from support.declared import rows


def variable(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if alias else f"PGVECTOR_SYNC_{name.upper()}"


def test_the_docs_have_every_variable():
    assert sorted(rows("## The environment")) == sorted(map(variable, Settings.model_fields))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_docs_have_every_default_as_it_is_written_in_the_environment(name, monkeypatch):
    documented = rows("## The environment")[variable(name)]
    default = Settings.model_fields[name].default
    if documented == "none":
        assert not default
        return
    monkeypatch.setenv(variable(name), documented.strip("`"))
    assert getattr(Settings(_env_file=None), name) == default
    assert default or isinstance(default, timedelta)


def test_an_invalid_host_is_refused_at_the_start_and_not_shown(monkeypatch):
    monkeypatch.setenv("PGVECTOR_SYNC_ALLOWED_HOSTS", "one.example,https://me:hunter2@two.example=KEY")
    load_settings.cache_clear()
    with pytest.raises(
        ConfigError, match=r"PGVECTOR_SYNC_ALLOWED_HOSTS: expected host, .*; entry 2 is none"
    ) as caught:
        load_settings()
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("PGVECTOR_SYNC_ALLOWED_HOST", "PGVECTOR_SYNC_ALLOWED_HOSTS"), ("PGVECTOR_SYNC_REDIS_URL", "REDIS_URL")],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelled_variable_is_refused_with_the_nearest_name(name, meant, place, monkeypatch):
    monkeypatch.setenv(name, "x") if place == "environment" else Path(".env").write_text(f"{name}=x\n")
    load_settings.cache_clear()
    with pytest.raises(ConfigError, match=rf"{name}.*did you mean {meant}\?"):
        load_settings()


def test_an_unknown_variable_is_left_to_doctor_and_those_of_other_programs_are_ignored(monkeypatch):
    for name in ("SERVICE_HOST", "PORT", "PORT_80_TCP_ADDR", "WORKER_SERVICE_PORT", "FAILPOINT", "TEST_EXAMPLES"):
        monkeypatch.setenv(f"PGVECTOR_SYNC_{name}", "x")
    monkeypatch.setenv("PGVECTOR_SYNC_QUANTUM", "x")
    load_settings.cache_clear()
    assert load_settings().attempts == 5
    assert unknown_variables() == ["PGVECTOR_SYNC_QUANTUM"]
