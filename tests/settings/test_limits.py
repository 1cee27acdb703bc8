"""The limits of calls, batches, leases and tasks: derived in an order that works, and refused otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pgvector_sync.dispatch import relay, slots
from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings, limits, load_settings

SLOW = {"provider_timeout": 180, "deadline": 600}
"""Settings for an endpoint that takes two minutes per call."""


@pytest.fixture
def celery_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], dict[str, Any]]:
    monkeypatch.setenv("REDIS_URL", "redis://localhost")  # the app is created when its module is imported
    from pgvector_sync.dispatch import app

    return app.celery_settings


CelerySettings = Callable[[Settings], dict[str, Any]]


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, REDIS_URL="redis://localhost", **values)


@pytest.mark.parametrize("values", [{}, SLOW, {"deadline": 24}])
def test_each_limit_leaves_time_for_the_one_before(
    values: dict[str, Any], celery_settings: CelerySettings
) -> None:
    made = settings(**values)
    celery = celery_settings(made)
    order = [
        made.renew_every,
        made.expires_after,
        made.lease,
        made.ends_after,
        limits.soft_task_limit(made),
        limits.hard_task_limit(made),
    ]
    assert made.longest_call * 3 <= made.deadline < made.ends_after
    assert order == sorted(order)
    assert celery["task_soft_time_limit"] > made.ends_after.total_seconds()
    assert celery["task_time_limit"] > celery["task_soft_time_limit"]
    assert celery["worker_soft_shutdown_timeout"] > made.longest_call.total_seconds()


def test_celerys_limits_follow_the_deadline(celery_settings: CelerySettings) -> None:
    usual, slow = celery_settings(settings()), celery_settings(settings(**SLOW))
    assert (usual["task_soft_time_limit"], usual["task_time_limit"]) == (130, 140)
    assert (slow["task_soft_time_limit"], slow["task_time_limit"]) == (810, 820)
    assert (usual["worker_soft_shutdown_timeout"], slow["worker_soft_shutdown_timeout"]) == (45, 195)


WRONG = {
    "a request longer than its batch": (
        {"PROVIDER_TIMEOUT": "PT3M"},
        ["PROVIDER_TIMEOUT", "DEADLINE"],
        "set PGVECTOR_SYNC_PROVIDER_TIMEOUT to 30 s or less, or PGVECTOR_SYNC_DEADLINE to 540 s or more",
    ),
    "a row that may take as long as a silent server": (
        {"ROW_TIMEOUT": "PT20S"},
        ["ROW_TIMEOUT", "DEADLINE"],
        "set PGVECTOR_SYNC_ROW_TIMEOUT to 10 s or less",
    ),
    "a row that may take too much of its batch": (
        {"ROW_TIMEOUT": "PT8S", "DEADLINE": "PT45S"},
        ["ROW_TIMEOUT", "DEADLINE"],
        "set PGVECTOR_SYNC_ROW_TIMEOUT to 5 s or less, or PGVECTOR_SYNC_DEADLINE to 72 s or more",
    ),
    "a lock that makes a row look slow": (
        {"ROW_TIMEOUT": "0.2"},
        ["LOCK_TIMEOUT", "ROW_TIMEOUT"],
        "set PGVECTOR_SYNC_LOCK_TIMEOUT to 0.04 s or less, or PGVECTOR_SYNC_ROW_TIMEOUT to 0.25 s or more",
    ),
    "a lock longer than any row": (
        {"LOCK_TIMEOUT": "10", "LEASE": "100"},
        ["LOCK_TIMEOUT", "ROW_TIMEOUT"],
        "set PGVECTOR_SYNC_LOCK_TIMEOUT to 1 s or less",
    ),
    "a lease that a lock holds up": (
        {"LEASE": "0.1"},
        ["LOCK_TIMEOUT", "LEASE"],
        "set PGVECTOR_SYNC_LOCK_TIMEOUT to 0.01 s or less, or PGVECTOR_SYNC_LEASE to 0.5 s or more",
    ),
    "a lease longer than any batch": (
        {"LEASE": "PT12M"},
        ["LEASE", "DEADLINE"],
        "set PGVECTOR_SYNC_LEASE to 120 s or less, or PGVECTOR_SYNC_DEADLINE to 540 s or more",
    ),
    "waits that shrink": (
        {"BACKOFF_FIRST": "PT1H"},
        ["BACKOFF_FIRST", "BACKOFF_LONGEST"],
        "set PGVECTOR_SYNC_BACKOFF_FIRST to 600 s or less, or PGVECTOR_SYNC_BACKOFF_LONGEST to 3600 s or more",
    ),
    "a poll longer than an election": ({"POLL": "PT5S"}, ["POLL"], "set PGVECTOR_SYNC_POLL to 1 s or less"),
    "a load that no slice can hold": (
        {"DRAIN_ROWS": "100"},
        ["BURST_ROWS", "DRAIN_ROWS"],
        "set PGVECTOR_SYNC_BURST_ROWS to 100 or less, or PGVECTOR_SYNC_DRAIN_ROWS to 500 or more",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_limits_that_cant_work_are_refused_with_the_variables_and_values_that_would(name: str) -> None:
    variables, named, remedy = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        limits.require(settings(**_lower(variables)))
    assert str(caught.value).startswith(", ".join(f"PGVECTOR_SYNC_{variable}" for variable in named) + ": ")
    assert caught.value.hint == remedy


def test_every_limit_has_a_case() -> None:
    found = {tuple(named) for _, named, _ in WRONG.values()}
    declared = {(limit.setting, limit.other) if limit.other else (limit.setting,) for limit in limits.LIMITS}
    assert found == {tuple(name.upper() for name in names) for names in declared}


@pytest.mark.parametrize("name", WRONG)
def test_the_remedies_work(name: str) -> None:
    """Each value that a hint suggests solves the problem, until none is left."""
    variables, _, remedy = WRONG[name]
    for way in re.finditer(r"PGVECTOR_SYNC_(\w+) to ([\d.]+)", remedy):
        tried = {**variables, way[1]: way[2]}
        assert remedy not in [found.hint for found in limits.problems(settings(**_lower(tried)))]


def _lower(variables: dict[str, str]) -> dict[str, str]:
    return {variable.lower(): value for variable, value in variables.items()}


@pytest.mark.parametrize("value", ["0", "0.0004", "-1", "PT0S"])
def test_a_duration_that_postgres_would_read_as_no_limit_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGVECTOR_SYNC_LOCK_TIMEOUT", value)
    load_settings.cache_clear()
    with pytest.raises(ConfigError, match=r"PGVECTOR_SYNC_LOCK_TIMEOUT: expected a duration of at least a milli"):
        load_settings()


def test_polls_are_frequent_enough_to_renew_the_relays_announcement() -> None:
    assert limits.LONGEST_POLL * 2 <= relay.ELECTED_FOR
    assert limits.LONGEST_POLL + relay.ANNOUNCE_EVERY < slots.ANNOUNCED_FOR


def test_what_is_documented_for_a_slow_endpoint_is_not_refused() -> None:
    limits.require(settings(**SLOW))
    limits.require(settings())
    limits.require(settings(deadline=5, lease=3))


@pytest.mark.parametrize(
    "command",
    [
        ("pgvector_sync", "worker"),
        ("pgvector_sync", "beat"),
        ("pgvector_sync", "sync", "--once"),
        ("celery", "-A", "pgvector_sync.celery_app", "worker"),
        ("celery", "-A", "pgvector_sync.celery_app", "beat"),
    ],
    ids=" ".join,
)
@pytest.mark.quick_variants(2)
def test_nothing_starts_with_limits_that_cant_work(command: tuple[str, ...]) -> None:
    env = os.environ | {
        "DATABASE_URL": "postgresql://localhost:9/nothing",
        "REDIS_URL": "redis://localhost:9",
        "PGVECTOR_SYNC_PROVIDER_TIMEOUT": "PT3M",
    }
    ended = subprocess.run(
        [sys.executable, "-m", *command], check=False, env=env, capture_output=True, text=True, timeout=60
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 2, said
    assert "PGVECTOR_SYNC_PROVIDER_TIMEOUT" in said
    assert "540 s" in said
    assert "Traceback" not in said
