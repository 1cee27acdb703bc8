from __future__ import annotations

from collections.abc import Callable

import pytest

from support.beginnings import begins_with, default_source
from support.synced import Synced


def in_sync(synced: Synced) -> None:
    """A pipeline in sync."""
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one'), (2, 'two')")


beginning, docs = begins_with(in_sync)


@pytest.fixture
def worker_role(role: Callable[..., str]) -> str:
    """A role without any right."""
    return role("worker")
