"""How a `Sync` opens and closes, and who can share it."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgvector_sync import ConfigError, MigrationRefused, Refused, Settings, Sync
from pgvector_sync.settings import load_settings
from support.beginnings import begins_with, ten_rows
from support.client import sync_as
from support.roles import WORKER
from support.synced import Synced

beginning, synced = begins_with(ten_rows)


@pytest.fixture
def sync(synced: Synced) -> Iterator[Sync]:
    with sync_as(synced.database, WORKER) as sync:
        yield sync


def test_an_invalid_configuration_is_reported_by_the_constructor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    load_settings.cache_clear()
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        Sync()
    load_settings.cache_clear()


def test_a_missing_schema_is_reported_with_what_to_do(bare_database_url: str) -> None:
    with (
        Sync(bare_database_url, settings=Settings(_env_file=None)) as sync,
        pytest.raises(MigrationRefused) as error,
    ):
        sync.status()
    assert "pgvector-sync migrate" in str(error.value.hint)


def test_an_unreachable_database_raises_psycopgs_error() -> None:
    with (
        Sync("postgresql://127.0.0.1:1/app", settings=Settings(_env_file=None)) as sync,
        pytest.raises(psycopg.OperationalError),
    ):
        sync.status()


def test_nothing_is_open_before_the_first_call_and_after_close(synced: Synced) -> None:
    def connections() -> int:
        return synced.database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
            "AND application_name = 'pgvector-sync'"
        )

    synced.runtime.database.close()
    synced.owner.database.close()
    before = connections()
    sync = sync_as(synced.database, WORKER)
    assert connections() == before
    sync.status()
    sync.close()
    sync.close()
    with pytest.raises(Refused, match="this Sync is closed"):
        sync.status()


def _in_a_child(sync: Sync, answers: Any) -> None:
    answers.put([pipeline.name for pipeline in sync.status().pipelines])


def test_an_instance_can_be_used_after_a_fork(sync: Sync) -> None:
    sync.status()
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_in_a_child, args=(sync, answers))
    child.start()
    child.join(30)
    assert (child.exitcode, answers.get()) == (0, ["docs"])
    assert sync.pipelines() == ("docs",)


def test_threads_can_share_an_instance(sync: Sync) -> None:
    names: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: names.append(sync.pipelines())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [("docs",)] * 8
