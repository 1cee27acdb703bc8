from __future__ import annotations

from collections.abc import Callable

import pytest

from support.synced import Synced


@pytest.fixture
def docs(applied: None, synced: Synced) -> Synced:
    """A pipeline in sync."""
    synced.filled("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    return synced


@pytest.fixture
def worker_role(role: Callable[..., str]) -> str:
    """A role without any right."""
    return role("worker")
