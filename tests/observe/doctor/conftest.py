from __future__ import annotations

from collections.abc import Callable

import pytest

from support.synced import DOCS, Synced


@pytest.fixture
def docs(synced: Synced) -> Synced:
    """A pipeline in sync."""
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    synced.pipeline()
    return synced


@pytest.fixture
def worker_role(role: Callable[..., str]) -> str:
    """A role without any right."""
    return role("worker")
