"""The limits of calls, batches, leases and tasks: derived in an order that works, and refused where they can't."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings, limits

SLOW = {"provider_timeout": 180, "deadline": 600}
"""An endpoint that takes two minutes."""


@pytest.fixture
def celery_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], dict[str, Any]]:
    monkeypatch.setenv("REDIS_URL", "redis://localhost")  # the app is made when its module is imported
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
    "a call longer than its batch": (
        {"PROVIDER_TIMEOUT": "PT3M"},
        "PGVECTOR_SYNC_PROVIDER_TIMEOUT",
        "PGVECTOR_SYNC_DEADLINE to 540 s",
    ),
    "a lease that a lock holds up": ({"LEASE": "0.1"}, "PGVECTOR_SYNC_LEASE", "0.5 s or more"),
    "a lease longer than any batch": ({"LEASE": "PT12M"}, "PGVECTOR_SYNC_LEASE", "120 s or less"),
    "waits that shrink": ({"BACKOFF_FIRST": "PT1H"}, "PGVECTOR_SYNC_BACKOFF_LONGEST", "3600 s or more"),
}


@pytest.mark.parametrize("name", WRONG)
def test_limits_that_cant_work_are_refused_with_what_would(name: str) -> None:
    variables, where, remedy = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        limits.require(settings(**{variable.lower(): value for variable, value in variables.items()}))
    assert where in str(caught.value)
    assert remedy in (caught.value.hint or "")


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
